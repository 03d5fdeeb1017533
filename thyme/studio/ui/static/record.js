// The page of a record, and the list: verdicts, the next record, keys. What a record says is never read as HTML here.
"use strict";
(() => {
  const main = document.getElementById("content");
  const { item, turn, query, revision } = main.dataset;
  const filter = JSON.parse(main.dataset.next);
  const search = query ? `?${query}` : "";
  const address = (id) => `/items/${id}${search}`;
  const button = (act) => document.querySelector(`[data-act="${act}"]:not(:disabled)`);

  const { seconds } = studio.clock();

  const next = async (release) => {
    const body = { ...filter };
    if (item) body.after = Number(item);
    if (release) body.release = Number(item);
    const found = await studio.ask("/api/next", body);
    if (found.item) await studio.go(address(found.item.id));
    await studio.go(query ? `/?finished&${query}` : "/?finished");
  };
  const undo = async () => {
    const found = await studio.ask("/api/undo");
    if (!found.item) throw new Error("There is nothing that you could take back.");
    studio.tell("Taken back.");
    await studio.go(address(found.item.id));
  };
  if (!item) {
    studio.bind({ start: () => next(false), undo }, { Enter: "start", u: "undo" });
    studio.renew(async () => {
      const reply = await fetch(location.href, { credentials: "same-origin" });
      if (!reply.ok || reply.redirected) return;
      const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
      for (const part of ["#start", ".start .hint", ".start progress"]) {
        document.querySelector(part).replaceWith(fresh.querySelector(part));
      }
      for (const act of ["start", "undo"]) {
        const shown = `[data-act="${act}"]`;
        document.querySelector(shown).disabled = fresh.querySelector(shown).disabled;
      }
    });
    return;
  }

  // Who hits a key twice has not seen the record that the second hit would be about.
  const hastily = (act) => {
    const [last, at] = (sessionStorage.getItem("did") || "").split(" ");
    return last === act && Date.now() - Number(at) < 400;
  };
  const onwards = async (act, release) => {
    sessionStorage.setItem("did", `${act} ${Date.now()}`);
    await next(release);
  };
  const say = async (verdict, more) => {
    const way = turn === "decide" ? "decision" : "verdict";
    const body = { verdict, seconds: seconds(), revision: verdict === "accept" && revision ? Number(revision) : null, ...more };
    await studio.ask(`/api/items/${item}/${way}`, body);
    studio.tell(verdict === "accept" ? "Accepted. U takes it back." : "Rejected. U takes it back.");
    if (turn === "review") await onwards(verdict, false);
    await studio.go(address(item));
  };

  // --- the reason of a rejection ---

  const reasons = document.getElementById("reasons");
  const note = document.getElementById("note");
  const form = reasons.querySelector("form");
  const choices = [...form.querySelectorAll('input[name="reason"]')];
  const wrong = form.querySelector(".alert");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const reason = form.elements.namedItem("reason").value;
    wrong.hidden = reason !== "other" || note.value.trim() !== "";
    if (!wrong.hidden) {
      wrong.textContent = "Say in the note what is wrong.";
      note.focus();
      return;
    }
    reasons.close();
    studio.run(() => say("reject", { reason, note: note.value }));
  });
  reasons.addEventListener("keydown", (event) => {
    if (event.target === note) {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      return;
    }
    const place = "1234567890o".indexOf(event.key.toLowerCase());
    if (event.key.length === 1 && choices[place] && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      choices[place].checked = true;
      choices[place].focus();
      if (choices[place].value === "other") note.focus();
    } else if (event.key === "Enter" && event.target.tagName !== "BUTTON") {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    const close = dialog.querySelector("[data-close]");
    if (close) close.addEventListener("click", () => dialog.close());
  }

  // --- moving about ---

  const steps = [...document.querySelectorAll(".steps > .step")];
  let at = -1;
  const step = (by) => {
    if (!steps.length) return;
    if (steps[at]) steps[at].classList.remove("at");
    at = Math.min(Math.max(at + by, 0), steps.length - 1);
    steps[at].classList.add("at");
    steps[at].scrollIntoView({ block: "center" });
  };
  const acts = {
    accept: () => hastily("accept") || say("accept", {}),
    reject: () => {
      form.reset();
      wrong.hidden = true;
      reasons.showModal();
      choices[0].focus();
    },
    edit: () => studio.go(`/items/${item}/edit?revision=${revision || 0}${query ? `&${query}` : ""}`),
    skip: () => hastily("skip") || onwards("skip", true),
    take: async () => {
      await studio.ask(`/api/items/${item}/lease`);
      await studio.go(address(item));
    },
    next: () => next(false),
    undo,
    keys: () => document.getElementById("keys").showModal(),
    down: () => step(1),
    up: () => step(-1),
    images: () => {
      const image = document.querySelector("a.zoom");
      if (image) image.click();
    },
  };
  // A key does only what a button of the page offers.
  const offered = (act) => ["down", "up", "images", "keys"].includes(act) || button(act) !== null;
  const keys = { a: "accept", r: "reject", e: "edit", s: "skip", u: "undo", n: "next", j: "down", k: "up", i: "images", "?": "keys", Enter: "take" };
  studio.bind(acts, Object.fromEntries(Object.entries(keys).filter(([, act]) => offered(act))));

  if (turn === "review") studio.keep(`/api/items/${item}/lease`, Number(main.dataset.leaseS));
})();
