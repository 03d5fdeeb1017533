// The options of a multiple-choice question: which is right, and plausible ones that are not.
"use strict";
const buildChoices = (place, rules, onChange) => {
  const { element, button } = annotation;
  const [fewest, most] = rules.choices;
  const list = place.querySelector(".options");
  const offers = place.querySelector(".offers");
  let right = -1;

  const inputs = () => [...list.querySelectorAll('input[type="text"]')];
  const texts = () => inputs().map((input) => input.value.trim());
  const changed = () => {
    const given = texts();
    right = [...list.querySelectorAll('input[type="radio"]')].findIndex((one) => one.checked);
    onChange({ choices: given.filter(Boolean), answer: right < 0 ? "" : given[right] });
    place.querySelector('[data-choice="add"]').disabled = given.length >= most;
  };
  const line = (text, index) => {
    const made = element("li");
    const letter = String.fromCharCode(65 + index);
    const radio = element("input", "", "", { type: "radio", name: "right", checked: index === right });
    radio.setAttribute("aria-label", `${letter} is the right one`);
    const input = element("input", "", "", { type: "text", value: text, maxLength: 1000, placeholder: `Option ${letter}` });
    input.setAttribute("aria-label", `Option ${letter}`);
    const remove = button("×", () => {
      const given = texts();
      given.splice(index, 1);
      if (index <= right) right = index === right ? -1 : right - 1;
      show(given);
      changed();
    });
    remove.setAttribute("aria-label", `Remove option ${letter}`);
    made.append(radio, element("span", "letter", letter), input, remove);
    return made;
  };
  const show = (given) => {
    const shown = [...given];
    while (shown.length < Math.max(fewest, 2)) shown.push("");
    list.replaceChildren(...shown.map(line));
  };
  list.addEventListener("input", changed);
  list.addEventListener("change", changed);
  list.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey || event.target.type !== "text") return;
    event.preventDefault();
    const all = inputs();
    const after = all[all.indexOf(event.target) + 1];
    if (after) after.focus();
    else add("");
  });
  const add = (text) => {
    const given = texts();
    if (given.length >= most) return;
    const free = text ? given.indexOf("") : -1;
    if (free >= 0) given[free] = text;
    else given.push(text);
    show(given);
    changed();
    if (!text) inputs().at(-1).focus();
  };
  const shuffle = () => {
    const given = texts().map((text, index) => ({ text, chosen: index === right }));
    for (let last = given.length - 1; last > 0; last -= 1) {
      const other = Math.floor(Math.random() * (last + 1));
      [given[last], given[other]] = [given[other], given[last]];
    }
    right = given.findIndex((one) => one.chosen);
    show(given.map((one) => one.text));
    changed();
  };
  const suggest = async (fields) => {
    const { question, answer, category, answer_type } = fields();
    if (!answer) throw new Error("Write the right option first, and mark it.");
    const { choices } = await studio.ask("/api/annotation/distractors", { question, answer, category, answer_type });
    const known = new Set(texts().map((text) => text.toLowerCase()));
    const fresh = choices.filter((choice) => !known.has(choice.toLowerCase()));
    offers.replaceChildren(...(fresh.length ? fresh.map((text) => {
      const made = button(text, () => {
        add(text);
        made.remove();
      });
      return made;
    }) : [element("span", "hint", "There is nothing to offer for this answer; write your own.")]));
  };
  place.addEventListener("click", (event) => {
    const act = event.target.dataset.choice;
    if (act === "add") add("");
    if (act === "shuffle") shuffle();
  });
  return {
    suggest,
    set: ({ choices, answer }) => {
      right = choices.indexOf(answer);
      offers.replaceChildren();
      show(choices);
      place.querySelector('[data-choice="add"]').disabled = choices.length >= most;
    },
  };
};
