// What a question lacks, said while it is written, in the words of thyme/data/annotation/rules.py. The server decides: it
// looks at every draft that it saves, and again when it is submitted; this is for the time between, and for when the
// server is away.
"use strict";
const faultsOf = (fields, image, rules) => {
  const found = [];
  const miss = (field, message) => found.push({ field, message });
  const percent = (value) => `${(value * 100).toFixed(1)}%`;
  // Never "5.0% of the image; at most 5.0% are allowed".
  const above = (value) => {
    let digits = 1;
    while (digits < 9 && Number((value * 100).toFixed(digits)) <= rules.max_share * 100) digits += 1;
    return `${(value * 100).toFixed(digits)}%`;
  };
  const { question, answer, answer_type: kind, choices, category, box, hidden_when_small: hidden } = fields;
  const answering = () => {
    if (!answer.trim()) return miss("answer", "say the right answer");
    if (kind === "yes_no" && !["yes", "no"].includes(answer.trim().toLowerCase())) return miss("answer", "say yes or no");
    if (kind === "number" && !/^[-+]?[.,]?\d/.test(answer.trim())) return miss("answer", "begin with a number, such as 12, 0.5 or 40 km");
    return null;
  };
  const choosing = () => {
    if (kind !== "choice") return;
    const [fewest, most] = rules.choices;
    if (choices.length < fewest || choices.length > most) miss("choices", `there are ${choices.length} options; ${fewest} to ${most} are wanted`);
    if (new Set(choices.map((one) => one.toLowerCase())).size < choices.length) miss("choices", "two options are the same; change or remove one");
  };
  const boxing = () => {
    if (!box) return miss("box", "draw a box around what shows the answer");
    const [width, height] = [box[2] - box[0], box[3] - box[1]];
    if (width < 1 || height < 1) return miss("box", `the box does not lie in the image of ${image.width} x ${image.height} pixels; draw it anew`);
    if (Math.min(width, height) < rules.min_box) miss("box", `the box has ${width} x ${height} pixels; at least ${rules.min_box} each are wanted`);
    const share = (width * height) / (image.width * image.height);
    if (share > rules.max_share) miss("box", `the box takes ${above(share)} of the image; at most ${percent(rules.max_share)} are allowed`);
    return null;
  };
  if (!question.trim()) miss("question", "ask something");
  answering();
  choosing();
  if (!category) miss("category", "choose one of ocr, attribute, location, quantity, object, chart");
  boxing();
  if (rules.require_hidden && hidden === null) miss("hidden_when_small", "look at the image as the model first sees it, and say whether it shows the answer");
  if (rules.require_hidden && hidden === false) miss("hidden_when_small", "the answer is to be seen in the reduced image already; ask about something smaller");
  return found;
};
