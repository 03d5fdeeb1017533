// The page on which a question is answered by a second person, accepted by experts, or decided by an adjudicator.
"use strict";
(async () => {
  const { main, element, memory, button } = annotation;
  const id = Number(main.dataset.question);
  const path = `/api/annotation/questions/${id}`;
  const kept = `answer:${main.dataset.me}:${id}`;
  const get = (name) => document.getElementById(name);
  const clock = studio.clock();
  const wait = annotation.patience();
  let work = null;
  let known = null;
  let picture = null;

  // --- answering without having seen the answer ---

  const form = get("answering");
  const given = () => {
    const chosen = form.querySelector('input[name="option"]:checked');
    const category = form.querySelector('input[name="category"]:checked');
    const typed = get("answer").value.trim();
    return {
      answer: get("unanswerable").checked ? "" : chosen ? chosen.value : typed,
      unanswerable: get("unanswerable").checked, category: category ? category.value : "", note: get("note").value.trim(),
    };
  };
  // What is remembered belongs to this picture and this wording: another studio at this address counts from 1, too.
  const asked = () => `${work.picture} ${work.question}`;
  const options = () => {
    const words = work.answer_type === "choice" ? work.choices : work.answer_type === "yes_no" ? ["yes", "no"] : [];
    get("typed").hidden = words.length > 0;
    get("answer").inputMode = work.answer_type === "number" ? "decimal" : "text";
    get("options").replaceChildren(...words.map((word, index) => {
      const line = element("li");
      const label = element("label");
      label.append(element("input", "", "", { type: "radio", name: "option", value: word }), " ", element("span", "", word), element("kbd", "", String(index + 1)));
      line.append(label);
      return line;
    }));
  };
  const remember = () => memory.set(kept, { ...given(), of: asked() });
  const restore = () => {
    const before = memory.get(kept);
    if (!before || before.of !== asked()) return;
    for (const radio of form.querySelectorAll('input[name="option"]')) radio.checked = radio.value === before.answer;
    for (const radio of form.querySelectorAll('input[name="category"]')) radio.checked = radio.value === before.category;
    get("answer").value = work.choices.length ? "" : before.answer;
    get("unanswerable").checked = before.unanswerable;
    get("note").value = before.note;
    get("kept").textContent = "As you left it.";
  };
  // Sends until the server answers. What had arrived already is answered as the first time.
  const deliver = async (way, body) => {
    try {
      await studio.ask(`${path}/${way}`, body);
    } catch (error) {
      if (error.away) {
        get("kept").textContent = "The server is away. What you said is kept in this browser, and sent when it is back.";
        return new Promise((resolve, reject) => { wait.again(() => deliver(way, body).then(resolve, reject)); });
      }
      throw error;
    }
    wait.done();
    memory.drop(kept);
    return null;
  };
  const answer = async () => {
    const said = given();
    if (!said.unanswerable && !said.answer) throw new Error("Answer the question, or say that it cannot be answered.");
    if (!said.category) throw new Error("Say of what category the question is.");
    if (said.unanswerable && !said.note) throw new Error("Say in the note why it cannot be answered.");
    remember();
    await deliver("answer", { ...said, seconds: clock.seconds() });
    studio.tell("Your answer is kept. U takes it back.");
    await annotation.next({ queue: annotation.queue.queue || "second" });
  };

  // --- accepting, and deciding ---

  const say = async (verdict, more = {}) => {
    const right = get("right").value.trim();
    const body = { verdict, reason: "", note: "", seconds: clock.seconds(), ...more };
    if (work.role === "adjudicator" && verdict === "accept") {
      if (!right) throw new Error("Say what the right answer is.");
      body.answer = right;
    }
    await deliver("verdict", body);
    studio.tell({ accept: "Accepted. U takes it back.", reject: "Rejected. U takes it back.", return: "Sent back to its author. U takes it back." }[verdict]);
    await annotation.next({ queue: annotation.queue.queue || { expert: "expert", adjudicator: "adjudicate" }[work.role] });
  };
  const reasons = () => known.reasons.verdict;
  const because = (verdict, title) => () => annotation.reason(reasons(), title, (reason, note) => say(verdict, { reason, note }));

  // --- what is shown ---

  const WORDS = { answered: "answered", unanswerable: "says that it cannot be answered", accept: "accepted", reject: "rejected", return: "sent it back" };
  const line = (check) => {
    const made = element("li");
    made.append(element("b", "", check.name || check.role), ` ${WORDS[check.verdict] || check.verdict}`);
    if (check.answer) made.append(": ", element("q", "", check.answer));
    if (check.agrees !== null && check.role === "second") made.append(element("span", `state ${check.agrees ? "accept" : "disputed"}`, check.agrees ? "the author's answer" : "not the author's answer"));
    const more = [check.category && words(check.category), (reasons()[check.reason] || check.reason), check.note].filter(Boolean).join(" · ");
    if (more) made.append(element("span", "about", more));
    return made;
  };
  const words = (category) => (main.querySelector(`[data-category="${category}"]`) || {}).textContent || category;
  const fact = (name, value) => {
    const row = element("div");
    row.append(element("dt", "", name), element("dd", "", value));
    return row;
  };
  const facts = () => {
    get("facts").replaceChildren(...[
      work.answer && ["Author's answer", work.answer], work.category && ["Category", words(work.category)],
      work.box && ["Box", `${work.box[2] - work.box[0]} × ${work.box[3] - work.box[1]} px, ${annotation.share(work.share)} of the image`], work.author && ["Author", work.author],
    ].filter(Boolean).map(([name, value]) => fact(name, value)));
    get("said").replaceChildren(...(work.checks || []).map(line));
    get("said-part").hidden = !(work.checks || []).length;
  };
  const answers = () => {
    const all = [work.answer, ...(work.checks || []).filter((one) => one.role === "second").map((one) => one.answer), ...work.choices].filter(Boolean);
    get("answers").replaceChildren(...[...new Set(all)].map((text) => button(text, () => { get("right").value = text; })));
    get("right").value = work.answer || "";
  };
  const about = () => {
    get("about").textContent = [`${work.width} × ${work.height} px`, work.collection].filter(Boolean).join(" · ");
    const title = get("question");
    title.textContent = annotation.named(work.question);
    document.title = `${title.textContent} · thyme studio`;
    get("letters").replaceChildren(...(work.role === "second" ? [] : work.choices.map((choice) => element("li", choice === work.answer ? "right" : "", choice))));
  };
  const show = () => {
    about();
    const { role } = work;
    const mine = work.lease !== null || role === "lead" ? role : "";
    for (const part of main.querySelectorAll("[data-role]")) part.hidden = !part.dataset.role.split(" ").includes(mine || "none");
    get("facts-part").hidden = role === "second";
    facts();
    if (mine === "second") {
      options();
      restore();
    }
    if (mine === "adjudicator") answers();
    if (work.box) picture.setBox(work.box);
    get("target").hidden = !work.box;
    get("first").hidden = role === "second";
  };

  // --- keys ---

  const option = (index) => () => {
    const radio = form.querySelectorAll('input[name="option"]')[index];
    if (!radio || form.hidden) return;
    radio.checked = true;
    get("unanswerable").checked = false;
    remember();
  };
  const offered = (act) => [...main.querySelectorAll(`[data-act="${act}"]`)].some((one) => one.offsetParent !== null);
  const acts = () => ({
    ...picture.acts,
    answer: () => get("answer").focus(),
    send: answer,
    first: () => work.role !== "second" && picture.showFirst(!picture.isFirst()),
    accept: () => say("accept"),
    reject: because("reject", "Why is it rejected?"),
    return: because("return", "Why does it go back to its author?"),
    skip: () => annotation.next({ queue: annotation.queue.queue || { second: "second", expert: "expert", adjudicator: "adjudicate" }[work.role] || "" }, { kind: "question", id }),
    take: async () => {
      await studio.ask(`${path}/lease`);
      location.reload();
    },
    unanswerable: () => {
      get("unanswerable").checked = !get("unanswerable").checked;
      remember();
    },
    undo: annotation.undo,
    keys: annotation.keys,
    ...Object.fromEntries([...Array(9).keys()].map((index) => [`option${index}`, option(index)])),
  });
  const KEYS = {
    a: ["accept", "answer"], r: ["reject"], b: ["return"], s: ["skip"], u: ["undo"], x: ["unanswerable"], Enter: ["take"],
  };
  const ALWAYS = {
    f: "first", t: "target", "+": "closer", "=": "closer", "-": "wider", 0: "whole", p: "pixels", "?": "keys",
    ...Object.fromEntries([...Array(9).keys()].map((index) => [String(index + 1), `option${index}`])),
  };
  const listen = () => {
    form.addEventListener("input", (event) => {
      if (event.target.name === "option") get("unanswerable").checked = false;
      remember();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      studio.run(answer);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !form.hidden && !document.querySelector("dialog[open]")) form.requestSubmit();
      if (event.key === "Escape" && event.target.closest("input, textarea")) event.target.blur();
    });
    const found = Object.entries(KEYS).map(([key, names]) => [key, names.find(offered)]).filter(([, act]) => act);
    studio.bind(acts(), { ...ALWAYS, ...Object.fromEntries(found) });
  };
  await studio.run(async () => {
    [known, work] = await Promise.all(["/api/annotation", path].map((one) => studio.ask(one, null, "GET")));
    if (work.lease || annotation.queue.queue) work.lease = (await studio.ask(`${path}/lease`)).lease;
    picture = openPicture(get("picture"), { ...work, id: work.image }, { onFirst: (on) => get("first").setAttribute("aria-pressed", String(Boolean(on))) });
    show();
    listen();
    annotation.keep(`${path}/lease`, work.lease && work.lease.seconds);
    main.dataset.ready = "yes";
  });
})();
