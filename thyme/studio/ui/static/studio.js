// What all pages of the studio share: asking the server, saying what went wrong, and keys.
"use strict";
const studio = (() => {
  const problem = document.getElementById("problem");
  const csrf = document.querySelector('meta[name="csrf"]').content;

  const complain = (text) => {
    problem.textContent = text;
    problem.hidden = !text;
  };
  // Errors say whether the server was away, and all that it told.
  const ask = async (path, body, method = "POST", more = {}) => {
    let reply;
    try {
      const headers = { "content-type": "application/json", "x-csrf-token": csrf };
      const content = method === "GET" ? undefined : JSON.stringify(body ?? {});
      reply = await fetch(path, { method, credentials: "same-origin", headers, body: content, ...more });
    } catch {
      throw Object.assign(new Error("The server cannot be reached. Is it running? Try again."), { away: true });
    }
    if (!reply.ok) {
      const told = await reply.json().catch(() => null);
      const fault = (told && told.error) || { message: `The server answered with status ${reply.status}.` };
      const away = reply.status >= 502 && reply.status <= 504;
      throw Object.assign(new Error(fault.message), { code: fault.code, told, away, status: reply.status });
    }
    return reply.json();
  };
  // Seconds that the page was in sight.
  const clock = () => {
    let since = document.hidden ? null : performance.now();
    let seen = 0;
    const seconds = () => {
      if (since !== null) seen += (performance.now() - since) / 1000;
      since = document.hidden ? null : performance.now();
      return seen;
    };
    document.addEventListener("visibilitychange", seconds);
    return { seconds, restart: () => { seconds(); seen = 0; } };
  };
  // What the page shows stays somebody's while they use it: their lease of so many seconds is renewed.
  const keep = (path, seconds, failed = (error) => complain(error.message)) => {
    const pause = seconds * 1000;
    let touched = Date.now();
    for (const kind of ["pointerdown", "pointermove", "keydown", "scroll"]) {
      document.addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
    }
    setInterval(() => {
      if (document.hidden || Date.now() - touched > pause) return;
      ask(path).catch(failed);
    }, pause / 3);
  };
  // Counts grow old while others work: act asks for them again when somebody comes back to the page, and each minute that
  // it is in sight. Where the server is away they stay as they are.
  const renew = (act) => {
    let asking = false;
    const again = async () => {
      if (document.hidden || asking) return;
      asking = true;
      await act().catch(() => {});
      asking = false;
    };
    document.addEventListener("visibilitychange", again);
    window.addEventListener("focus", again);
    setInterval(again, 60000);
  };
  // What the next page is to say.
  const tell = (text) => sessionStorage.setItem("told", text);
  const told = document.querySelector(".told");
  if (told && sessionStorage.getItem("told")) {
    told.textContent = sessionStorage.getItem("told");
    sessionStorage.removeItem("told");
  }
  // A page that is left does nothing more, or a second key would act on what is no longer shown.
  const go = (address) => {
    location.assign(address);
    return new Promise(() => {});
  };
  window.addEventListener("pageshow", (event) => event.persisted && location.reload());
  // One thing is done at a time. Buttons say what by data-act.
  let busy = false;
  const run = async (act) => {
    if (busy) return;
    busy = true;
    complain("");
    try {
      await act();
    } catch (error) {
      complain(error.message);
    }
    busy = false;
  };
  const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;
  const bind = (acts, keys) => {
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[data-act]");
      if (button && !button.disabled && acts[button.dataset.act] && button.tagName === "BUTTON") run(acts[button.dataset.act]);
    });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event.target)) return;
      if (document.querySelector("dialog[open]")) return;
      if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
      const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!act || !acts[act]) return;
      event.preventDefault();
      run(acts[act]);
    });
  };
  const leave = document.getElementById("leave");
  if (leave) leave.addEventListener("click", () => run(async () => {
    await ask("/api/leave");
    await go("/");
  }));
  return { ask, bind, clock, complain, go, keep, renew, run, tell };
})();
