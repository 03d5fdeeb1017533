// Where people begin, the list of questions, and the figures: what the server tells, as text.
"use strict";
(() => {
  const { main, element, button } = annotation;
  const get = (name) => document.getElementById(name);
  const ask = (path) => studio.ask(path, null, "GET");
  const options = (select, values, chosen) => {
    for (const [value, text] of values) select.append(element("option", "", text, { value, selected: value === chosen }));
  };
  const collections = (known, chosen) => options(get("collection"), known.collections.map((one) => [one.value, `${one.value} (${one.images})`]), chosen);
  const wordOf = (name) => (main.querySelector(`[data-word="${name}"]`) || {}).textContent || name;

  // --- the start ---

  const MAY = { annotate: "annotate", returned: "annotate", second: "second", expert: "expert", adjudicate: "adjudicate" };
  const urgent = () => ["returned", "adjudicate", "second", "expert", "annotate"].find((name) => main.querySelector(`[data-queue="${name}"]:not([hidden]) button:not(:disabled)`));
  const waiting = (known) => {
    for (const card of main.querySelectorAll("[data-queue]")) {
      const name = card.dataset.queue;
      const count = known.queues[name] ?? 0;
      card.hidden = !known.roles.includes(MAY[name]) && !(name === "returned" && count);
      card.querySelector("dd b").textContent = count;
      card.querySelector("button").disabled = !count;
    }
    get("begin").disabled = !urgent();
  };
  const start = async () => {
    const known = await ask("/api/annotation");
    const { collection, category } = annotation.queue;
    collections(known, collection);
    get("category").value = category;
    waiting(known);
    studio.renew(async () => waiting(await ask("/api/annotation")));
    const go = (queue) => () => annotation.next({ queue, collection: get("collection").value, category: get("category").value });
    const names = ["annotate", "returned", "second", "expert", "adjudicate"];
    studio.bind(
      { begin: () => urgent() && go(urgent())(), undo: annotation.undo, keys: annotation.keys, ...Object.fromEntries(names.map((name) => [name, go(name)])) },
      { Enter: "begin", u: "undo", "?": "keys", ...Object.fromEntries(names.map((name, index) => [index + 1, name])) },
    );
  };

  // --- questions ---

  const row = (one, lead) => {
    const made = element("li");
    const draft = one.state === "draft" && one.author === main.dataset.name;
    const link = element("a", "", "", { href: draft ? `/annotate/images/${one.image}?question=${one.id}` : `/annotate/questions/${one.id}` });
    link.append(element("span", "", one.question || "(nothing asked yet)"));
    const about = [one.answer, wordOf(one.category), one.author, one.share === null ? "" : `${annotation.share(one.share)} of the image`, one.gold ? "gold" : ""];
    made.append(link, element("span", "about", about.filter(Boolean).join(" · ")));
    const end = element("span", "acts");
    end.append(element("span", `state ${one.state}`, wordOf(one.state)));
    if (lead && one.state === "accepted") {
      end.append(button(one.gold ? "Gold no more" : "Make gold", async () => {
        await studio.ask(`/api/annotation/questions/${one.id}/gold`, { gold: !one.gold });
        await listed();
      }));
    }
    if (lead && one.state === "draft" && !draft) {
      end.append(button("Take over", async () => {
        await studio.ask(`/api/annotation/questions/${one.id}/take`);
        await listed();
      }));
    }
    made.append(end);
    return made;
  };
  const listed = async () => {
    const asked = new URLSearchParams(location.search);
    const found = await ask(`/api/annotation/questions?${new URLSearchParams([...asked].filter(([, value]) => value))}`);
    get("found").textContent = `${found.total} ${found.total === 1 ? "question" : "questions"}`;
    get("list").replaceChildren(...found.questions.map((one) => row(one, "lead" in main.dataset)));
    const to = (page, text) => {
      asked.set("page", page);
      return element("a", "button", text, { href: `?${asked}` });
    };
    get("pages").replaceChildren(...[
      found.page > 1 && to(found.page - 1, "Previous"), found.total > 0 && element("span", "", `page ${found.page} of ${found.pages}`), found.page < found.pages && to(found.page + 1, "Next"),
    ].filter(Boolean));
    main.dataset.ready = "yes";
  };
  const list = async () => {
    const asked = new URLSearchParams(location.search);
    collections(await ask("/api/annotation"), asked.get("collection"));
    for (const field of get("filters").elements) {
      if (field.name && asked.get(field.name)) field.value = asked.get(field.name);
    }
    await listed();
  };

  // --- figures ---

  const card = (name, value, more) => {
    const made = element("div");
    const figure = element("dd", "", String(value));
    if (more) figure.append(element("small", "", more));
    made.append(element("dt", "", name), figure);
    return made;
  };
  const cells = (values) => {
    const made = element("tr");
    values.forEach((value, index) => made.append(element(index ? "td" : "th", "", value ?? "–", index ? {} : { scope: "row" })));
    return made;
  };
  const kappa = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
  const figures = async () => {
    const asked = new URLSearchParams(location.search).get("collection") || "";
    collections(await ask("/api/annotation"), asked);
    const { images, states, wanted, people, agreement } = await ask(`/api/annotation/progress?${new URLSearchParams({ collection: asked })}`);
    const counted = Object.entries(images).map(([name, count]) => [wordOf(`image-${name}`), count]);
    const written = Object.entries(states).map(([name, count]) => [`Questions: ${wordOf(name)}`, count]);
    const lacking = [["Answers still wanted", wanted.second], ["Experts' verdicts still wanted", wanted.expert]]
      .filter(([, role]) => role.lacking !== null)
      .map(([name, role]) => [name, role.lacking, `${role.people} ${role.people === 1 ? "person" : "people"} may give them`]);
    get("states").replaceChildren(...[...counted, ...written, ...lacking].map((figure) => card(...figure)));
    get("agreement").replaceChildren(
      card("Answers agreed at first sight", annotation.share(agreement.answers)), card("Categories, Cohen's kappa", kappa(agreement.categories)),
      card("Experts, mean kappa of pairs", kappa(agreement.experts)),
    );
    get("people").replaceChildren(...people.map((one) => cells([
      one.name, one.written, one.returned, one.answered, one.verdicts, one.gold && one.gold.of ? `${one.gold.right} of ${one.gold.of}` : "–",
      ["written", "answered", "verdicts"].map((kind) => (one.seconds[kind] === null ? "–" : Math.round(one.seconds[kind]))).join(" / "),
    ])));
    const days = people.flatMap((one) => one.days.map((day) => ({ name: one.name, ...day })));
    days.sort((one, other) => (one.day < other.day ? 1 : one.day > other.day ? -1 : one.name.localeCompare(other.name)));
    get("days").replaceChildren(...days.map((one) => cells([one.day, one.name, one.written, one.answered, one.verdicts])));
    main.dataset.ready = "yes";
  };
  studio.run({ start, list, figures }[main.dataset.page]);
})();
