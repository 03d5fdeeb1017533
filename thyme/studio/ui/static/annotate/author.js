// The page on which an image is asked about.
"use strict";
(async () => {
  const { main, element } = annotation;
  const image = Number(main.dataset.image);
  const form = document.getElementById("question-form");
  const get = (name) => document.getElementById(name);
  const state = get("saving");
  const clock = studio.clock();
  let drafts = [];
  let now = null;
  let work = null;
  let prefix = "";
  let rules = null;
  let reasons = {};
  let picture = null;
  let choices = null;

  const NAMES = {
    saved: "All is saved.", saving: "Saving …", changed: "Saving …", away: "The server is away. All is kept in this browser, and sent when it is back.",
    forgetful: "This browser keeps nothing; leave the page only when all is saved.",
  };
  const say = (what, message) => {
    state.textContent = what === "refused" ? message : NAMES[what];
    state.dataset.state = what;
    if (what === "saved") picture.reload();
  };

  // --- what is shown of the draft at hand ---

  const editable = () => now.state === "draft";
  const shareLine = (share, box) => {
    const line = get("share");
    const over = share !== null && share > rules.max_share;
    line.classList.toggle("over", over);
    line.textContent = box
      ? `${box[2] - box[0]} × ${box[3] - box[1]} px · ${annotation.share(share, rules.max_share)} of the image${over ? `, more than the ${annotation.share(rules.max_share)} that are allowed` : ` (at most ${annotation.share(rules.max_share)})`}`
      : "No box yet.";
  };
  const showBox = () => {
    const { box } = now.fields;
    shareLine(box ? picture.shareOf(box) : null, box);
    ["left", "top", "right", "bottom"].forEach((side, index) => { get(side).value = box ? box[index] : ""; });
  };
  const showHidden = () => {
    const { hidden_when_small: hidden } = now.fields;
    get("hidden-state").textContent = hidden === null ? "Not looked at yet." : hidden ? "Looked at: it cannot be answered from that." : "Looked at: it can be answered from that.";
    get("hidden-state").dataset.hidden = String(hidden);
  };
  const showFaults = () => {
    const faults = now.saved && now.id !== null ? now.faults : faultsOf(now.fields, work, rules);
    const list = get("faults");
    const shown = faults.filter((one, index) => faults.findIndex((other) => other.message === one.message) === index);
    list.replaceChildren(...shown.map(({ field, message }) => Object.assign(element("li", "", message), { id: `fault-${field}` })));
    get("lacking").hidden = !shown.length || !editable();
  };
  const TYPED = { text: "answer-text", number: "answer-text", yes_no: "answer-yes", choice: "answer-choice" };
  const showAnswer = () => {
    const { answer, answer_type: kind } = now.fields;
    for (const id of new Set(Object.values(TYPED))) get(id).hidden = TYPED[kind] !== id;
    const typed = get("answer");
    if (typed.value.trim() !== answer) typed.value = answer;
    typed.inputMode = kind === "number" ? "decimal" : "text";
    for (const radio of get("answer-yes").querySelectorAll("input")) radio.checked = radio.value === answer;
  };
  const showTabs = () => {
    get("tabs").replaceChildren(...drafts.map((draft, index) => {
      const made = annotation.button(`${index + 1}`, () => open(draft), "plain tab");
      made.append(element("span", `state ${draft.state}`, draft.returned ? "sent back" : draft.state));
      made.setAttribute("aria-pressed", String(draft === now));
      return made;
    }));
    get("add").hidden = drafts.length >= rules.per_image;
  };
  const show = () => {
    const { fields } = now;
    get("question").value = fields.question;
    for (const name of ["category", "answer_type"]) {
      for (const radio of form.querySelectorAll(`input[name="${name}"]`)) radio.checked = radio.value === fields[name];
    }
    choices.set(fields);
    for (const part of form.querySelectorAll("fieldset.all")) part.disabled = !editable();
    get("returned").hidden = !now.returned;
    get("returned").textContent = now.returned ? `Sent back: ${annotation.named(now.returned)}` : "";
    get("closed").hidden = editable();
    picture.setBox(fields.box);
    showAnswer();
    showBox();
    showHidden();
    showFaults();
    showTabs();
  };
  // Whoever looked and said that the answer is hidden said so of what was asked about then.
  const elsewhere = (one, other) => one && other && (one[2] <= other[0] || other[2] <= one[0] || one[3] <= other[1] || other[3] <= one[1]);
  const change = (some) => {
    if (!editable()) return;
    if (elsewhere(now.looked, some.box)) {
      now.change({ hidden_when_small: null });
      showHidden();
    }
    now.looked = now.looked || some.box;
    now.change(some);
    showFaults();
  };
  // Arrow keys move the box, with Shift its lower right corner.
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const within = (value, least, most) => Math.min(Math.max(value, least), most);
  const nudged = ([left, top, right, bottom], [across, down], resize) => {
    if (resize) return [left, top, within(right + across, left + 1, work.width), within(bottom + down, top + 1, work.height)];
    const x = within(across, -left, work.width - right);
    const y = within(down, -top, work.height - bottom);
    return [left + x, top + y, right + x, bottom + y];
  };
  const nudge = (event) => {
    const way = ARROWS[event.key];
    if (!way || event.altKey || event.metaKey || !editable() || !now.fields.box || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, textarea, select, #picture")) return;
    event.preventDefault();
    const step = picture.step() * (event.ctrlKey ? 10 : 1);
    change({ box: nudged(now.fields.box, way.map((part) => part * step), event.shiftKey) });
    picture.setBox(now.fields.box);
    showBox();
  };

  // --- drafts ---

  // One question after the other, where several were changed elsewhere.
  let asked = Promise.resolve();
  const onConflict = (draft) => (stored) => {
    asked = asked.then(() => new Promise((resolve) => {
      const found = get("conflict");
      get("theirs").textContent = annotation.named([stored.question, stored.answer].filter(Boolean).join(" · ")) || "an empty question";
      found.returnValue = "";
      found.onclose = () => {
        draft.take(stored, found.returnValue === "theirs");
        if (draft === now) show();
        resolve();
      };
      found.showModal();
    }));
    return asked;
  };
  const adopt = (given) => {
    const draft = openDraft(prefix, image, given, {
      onState: (what, message) => draft === now && say(what, message),
      onConflict: (stored) => onConflict(draft)(stored),
      onSaved: () => {
        if (draft === now) showFaults();
        showTabs();
      },
    });
    drafts.push(draft);
    return draft;
  };
  const open = (draft) => {
    if (now) now.seconds += clock.seconds();
    clock.restart();
    now = draft;
    now.looked = now.looked || now.fields.box;
    picture.showFirst(false);
    say(draft.saved ? "saved" : "changed");
    show();
    if (!draft.saved) draft.save().catch(() => {});
  };
  const add = () => {
    if (drafts.length >= rules.per_image) throw new Error(`An image gets at most ${rules.per_image} questions.`);
    open(adopt({}));
    get("question").focus();
  };
  const submit = async () => {
    if (!editable()) return;
    await now.save();
    if (now.id === null) throw new Error("Write the question first.");
    now.seconds += clock.seconds();
    clock.restart();
    try {
      const question = await studio.ask(`/api/annotation/questions/${now.id}/submit`, { version: now.version, seconds: now.seconds });
      Object.assign(now, { state: question.state, version: question.version, faults: [], returned: null });
    } catch (error) {
      const { faults } = (error.told && error.told.error) || {};
      if (faults) now.faults = faults;
      showFaults();
      throw error;
    }
    now.forget();
    show();
    studio.complain("");
    get("told").textContent = "Submitted. Ask another, or go on to the next image.";
    const open_ = drafts.find((one) => one.state === "draft");
    if (open_) open(open_);
  };
  const drop = async () => {
    if (!editable() || (!unwritten(now) && !window.confirm("Drop this question for good?"))) return;
    if (now.id !== null) await studio.ask(`/api/annotation/questions/${now.id}`, null, "DELETE");
    now.forget();
    drafts.splice(drafts.indexOf(now), 1);
    now = null;
    open(drafts[0] || adopt({}));
  };
  const unwritten = (draft) => annotation.same(draft.fields, fieldsOf({}));
  const settle = async () => {
    for (const draft of drafts) await draft.save();
    const open_ = drafts.filter((one) => one.state === "draft" && !(one.id === null && unwritten(one)));
    if (open_.length) throw new Error(`${open_.length === 1 ? "One question is" : `${open_.length} questions are`} still a draft: submit or drop ${open_.length === 1 ? "it" : "them"} first.`);
  };
  const done = async () => {
    await settle();
    await studio.ask(`/api/annotation/images/${image}/done`, { unsuitable: "", note: "" });
    await annotation.next({ queue: annotation.queue.queue || "annotate" });
  };
  const aside = () => annotation.reason(reasons, "Why can nobody ask about this image?", async (unsuitable, note) => {
    await settle();
    await studio.ask(`/api/annotation/images/${image}/done`, { unsuitable, note });
    await annotation.next({ queue: annotation.queue.queue || "annotate" });
  });
  const skip = async () => {
    for (const draft of drafts) await draft.save();
    await annotation.next({ queue: annotation.queue.queue || "annotate" }, { kind: "image", id: image });
  };

  // --- the form ---

  const listen = () => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      studio.run(submit);
    });
    get("question").addEventListener("input", (event) => change({ question: event.target.value }));
    get("answer").addEventListener("input", (event) => change({ answer: event.target.value.trim() }));
    form.addEventListener("change", ({ target }) => {
      if (target.name === "category") change({ category: target.value });
      if (target.name === "yes") change({ answer: target.value });
      if (target.name === "answer_type") {
        const { answer, answer_type: before, choices: options } = now.fields;
        if (before === "choice") now.options = { answer, choices: options }; // whoever changes their mind again has them
        const kept = target.value === "yes_no" && !["yes", "no"].includes(answer) ? "" : answer;
        const again = now.options || { answer: kept, choices: kept ? [kept] : [] };
        change({ answer_type: target.value, ...(target.value === "choice" ? again : { answer: kept, choices: [] }) });
        choices.set(now.fields);
        showAnswer();
      }
      if (target.closest("#sides")) {
        const sides = ["left", "top", "right", "bottom"].map((side) => get(side).value && String(Math.round(Number(get(side).value))));
        if (sides.some((side) => side === "")) return;
        const [left, top, right, bottom] = sides.map(Number);
        const box = [Math.min(left, right), Math.min(top, bottom), Math.max(left, right), Math.max(top, bottom)];
        change({ box: box.map((side, index) => Math.min(Math.max(side, 0), index % 2 ? work.height : work.width)) });
        picture.setBox(now.fields.box);
        showBox();
      }
    });
    document.addEventListener("keydown", nudge);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !document.querySelector("dialog[open]")) form.requestSubmit();
      if (event.key === "Escape" && picture.drawing()) picture.draw(false);
      if (event.key === "Escape" && event.target.closest("input, textarea")) event.target.blur();
    });
    window.addEventListener("online", () => drafts.forEach((draft) => draft.save().catch(() => {})));
    window.addEventListener("pagehide", () => drafts.forEach((draft) => draft.part()));
    document.addEventListener("visibilitychange", () => document.hidden && drafts.forEach((draft) => draft.save().catch(() => {})));
  };
  const hidden = (value) => {
    picture.showFirst(false);
    now.looked = now.fields.box;
    change({ hidden_when_small: value });
    showHidden();
  };
  const category = (index) => () => {
    const radio = form.querySelectorAll('input[name="category"]')[index];
    if (!radio || !editable()) return;
    radio.checked = true;
    change({ category: radio.value });
  };
  const turn = (by) => () => open(drafts[(drafts.indexOf(now) + by + drafts.length) % drafts.length]);
  const acts = () => ({
    ...picture.acts,
    draw: () => editable() && picture.draw(!picture.drawing()),
    first: () => picture.showFirst(!picture.isFirst()),
    hidden: () => picture.isFirst() && hidden(true),
    plain: () => picture.isFirst() && hidden(false),
    ask: () => get("question").focus(),
    suggest: () => choices.suggest(() => now.fields),
    add, drop, done, aside, skip, keys: annotation.keys, before: turn(-1), after: turn(1),
    ...Object.fromEntries([0, 1, 2, 3, 4, 5].map((index) => [`category${index}`, category(index)])),
  });
  const KEYS = {
    b: "draw", f: "first", h: "hidden", y: "plain", q: "ask", g: "suggest", c: "add", n: "done", x: "aside", s: "skip", t: "target", "?": "keys",
    "+": "closer", "=": "closer", "-": "wider", 0: "whole", p: "pixels", "[": "before", "]": "after",
    ...Object.fromEntries([1, 2, 3, 4, 5, 6].map((digit) => [digit, `category${digit - 1}`])),
  };

  // --- begin ---

  const load = async () => {
    const [known, found] = await Promise.all(["/api/annotation", `/api/annotation/images/${image}`].map((path) => studio.ask(path, null, "GET")));
    rules = known.rules;
    reasons = known.reasons.aside;
    work = found;
    prefix = `annotate:${main.dataset.me}:${work.picture}:`; // numbers alone may be another studio's at this address
    try {
      work.lease = (await studio.ask(`/api/annotation/images/${image}/lease`)).lease;
    } catch (error) {
      if (!work.questions.length) throw error; // one's own questions are still to be seen
    }
  };
  const about = () => {
    get("about").textContent = [`${work.width} × ${work.height} px`, work.collection, work.source, work.licence].filter(Boolean).join(" · ");
    get("first-size").textContent = work.first_view ? work.first_view.join(" × ") : "";
  };
  const onFirst = (on) => {
    get("first-bar").hidden = !on;
    get("first").setAttribute("aria-pressed", String(Boolean(on)));
    if (on === null) studio.complain("The image as the model first sees it cannot be loaded; is the server running?");
  };
  await studio.run(async () => {
    await load();
    about();
    picture = openPicture(get("picture"), work, {
      editable: true,
      onBox: (box) => {
        change({ box });
        showBox();
      },
      onShare: shareLine,
      onFirst,
    });
    get("picture").addEventListener("drawing", ({ detail }) => get("draw").setAttribute("aria-pressed", String(detail)));
    choices = buildChoices(get("answer-choice"), rules, (some) => change(some));
    recovered(prefix, work.questions || []).forEach(adopt);
    if (!drafts.length) adopt({});
    const shown = new URLSearchParams(location.search).get("question");
    listen();
    open(drafts.find((one) => String(one.id) === shown) || drafts.find((one) => one.state === "draft") || drafts[0]);
    studio.bind(acts(), KEYS);
    annotation.keep(`/api/annotation/images/${image}/lease`, work.lease && work.lease.seconds);
    main.dataset.ready = "yes";
  });
})();
