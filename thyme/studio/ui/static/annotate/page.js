// What the pages of annotation share: elements, the browser's memory, asking again, leases, dialogs.
// What people wrote goes into pages as text only.
"use strict";
const annotation = (() => {
  const main = document.getElementById("content");
  // Characters that nobody sees, or that turn a text, by their numbers: the same as of thyme/view/unseen.py.
  const UNSEEN = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\u00ad\u115f\u1160\u180e\u200b\u2060-\u2064\u3164\ufeff\uffa0\u{e0000}-\u{e007f}]/gu;
  const named = (text) => String(text ?? "").replace(UNSEEN, (found) => `⟨U+${found.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  const element = (tag, name, text, more) => Object.assign(document.createElement(tag), { className: name || "", textContent: named(text) }, more);
  const button = (text, act, name = "plain") => {
    const made = element("button", name, text, { type: "button" });
    made.addEventListener("click", () => studio.run(act));
    return made;
  };
  const share = (value, most = null) => {
    if (value === null || value === undefined) return "–";
    let digits = value < 0.01 ? 2 : 1;
    while (value > most && most !== null && digits < 9 && Number((value * 100).toFixed(digits)) <= most * 100) digits += 1;
    return `${(value * 100).toFixed(digits)} %`;
  };
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

  // The browser's own memory. Without it (private windows, a full disk) the server's copy is all there is.
  const memory = {
    get: (key) => {
      try {
        return JSON.parse(localStorage.getItem(key));
      } catch {
        return null;
      }
    },
    set: (key, value) => {
      try {
        localStorage.setItem(key, JSON.stringify(value));
        return true;
      } catch {
        return false;
      }
    },
    drop: (key) => {
      try {
        localStorage.removeItem(key);
      } catch {
        // There is no memory, so nothing is in it.
      }
    },
    keys: (prefix) => {
      try {
        return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
      } catch {
        return [];
      }
    },
  };

  // The queue that somebody works through stands in the address.
  const wanted = new URLSearchParams(location.search);
  const queue = { queue: wanted.get("queue") || "", collection: wanted.get("collection") || "", category: wanted.get("category") || "" };
  const search = (more = {}) => {
    const given = Object.entries({ ...queue, ...more }).filter(([, value]) => value);
    return given.length ? `?${new URLSearchParams(given)}` : "";
  };
  const address = (work, more) => {
    if (work.kind === "image") return `/annotate/images/${work.id}${search(more)}`;
    if (work.role === "author") return `/annotate/images/${work.image}${search({ ...more, question: String(work.id) })}`;
    return `/annotate/questions/${work.id}${search(more)}`;
  };
  const next = async (more = {}, release = null) => {
    const body = { ...queue, ...more };
    if (release) body.release = release;
    const { work } = await studio.ask("/api/annotation/next", body);
    await studio.go(work ? address(work, more) : `/annotate${search({ ...more, finished: "1" })}`);
  };
  const undo = async () => {
    const found = await studio.ask("/api/annotation/undo");
    if (!found.work) throw new Error("There is nothing that you could take back.");
    studio.tell("Taken back.");
    await studio.go(address(found.work));
  };

  // Waits longer each time, at most a quarter of a minute; at once when the browser says that it is connected again.
  const patience = () => {
    let tries = 0;
    let timer = null;
    return {
      again: (act) => {
        clearTimeout(timer);
        timer = setTimeout(act, Math.min(1000 * 2 ** tries++, 15000));
      },
      done: () => {
        tries = 0;
        clearTimeout(timer);
      },
    };
  };

  // The page says by itself that the server is away.
  const keep = (path, seconds) => seconds && studio.keep(path, seconds, (error) => error.away || studio.complain(error.message));

  const dialog = (id) => {
    const found = document.getElementById(id);
    if (!found) return null;
    const close = found.querySelector("[data-close]");
    if (close) close.addEventListener("click", () => found.close());
    return found;
  };
  const DIGITS = "1234567890O";
  // Asks for a reason and a note; act(reason, note) says yes.
  const reason = (reasons, title, act) => {
    const found = document.getElementById("reasons");
    const form = found.querySelector("form");
    const note = form.querySelector("textarea");
    found.querySelector("h2").textContent = title;
    form.querySelector(".reasons").replaceChildren(...Object.entries(reasons).map(([value, meaning], index) => {
      const line = element("li");
      const label = element("label");
      label.append(element("input", "", "", { type: "radio", name: "reason", value, required: true }), " ", element("span", "", meaning), element("kbd", "", DIGITS[index]));
      line.append(label);
      return line;
    }));
    form.querySelector(".reasons").hidden = !Object.keys(reasons).length;
    note.value = "";
    note.required = !Object.keys(reasons).length;
    form.onsubmit = (event) => {
      event.preventDefault();
      const chosen = form.elements.namedItem("reason");
      found.close();
      studio.run(() => act(chosen ? chosen.value : "", note.value.trim()));
    };
    form.onkeydown = (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      if (event.target === note || event.ctrlKey || event.metaKey || event.altKey) return;
      const choice = event.key.length === 1 && form.querySelectorAll('input[name="reason"]')[DIGITS.indexOf(event.key.toUpperCase())];
      if (choice) {
        event.preventDefault();
        choice.checked = true;
        choice.focus();
      }
    };
    found.showModal();
    (form.querySelector("input") || note).focus();
  };
  dialog("reasons");
  const keys = dialog("keys");
  return {
    address, button, dialog, element, keep, keys: () => keys.showModal(), main, memory, named, next, patience, queue, reason, same, search, share, undo,
  };
})();
