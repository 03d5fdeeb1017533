// The playground: picks images, asks, and puts what the server tells into the page. Rows arrive as HTML that the server
// escaped; everything else goes in as text.
"use strict";
(() => {
  const form = document.getElementById("ask");
  const drop = document.getElementById("drop");
  const files = document.getElementById("files");
  const list = document.getElementById("picked");
  const words = document.getElementById("words");
  const submit = document.getElementById("submit");
  const problem = document.getElementById("problem");
  const result = document.getElementById("result");
  let picked = [];
  let stream = null;

  const complain = (text) => {
    problem.textContent = text;
    problem.hidden = !text;
  };
  const element = (tag, name, text) => {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = text;
    return made;
  };

  // --- images ---

  const show = () => {
    drop.classList.toggle("filled", picked.length > 0);
    list.replaceChildren(...picked.map(({ file, url }, index) => {
      const item = document.createElement("li");
      const thumb = element("span", "thumb", "");
      const image = document.createElement("img");
      image.alt = "";
      image.src = url;
      image.addEventListener("error", () => thumb.replaceChildren(element("span", "", "no preview")));
      thumb.append(image);
      const remove = element("button", "", "×");
      remove.type = "button";
      remove.setAttribute("aria-label", `Remove ${file.name}`);
      remove.addEventListener("click", () => {
        URL.revokeObjectURL(url);
        picked.splice(index, 1);
        complain("");
        show();
        (list.querySelectorAll("button")[Math.min(index, picked.length - 1)] || files).focus();
      });
      item.append(thumb, element("span", "name", file.name), remove);
      return item;
    }));
  };
  const add = (more) => {
    complain("");
    const most = Number(form.dataset.maxImages);
    for (const file of more) {
      if (picked.length >= most) {
        complain(`This server takes ${most} images a question; ${file.name} was left out.`);
        break;
      }
      picked.push({ file, url: URL.createObjectURL(file) });
    }
    show();
  };
  files.addEventListener("change", () => {
    add(files.files);
    files.value = "";
    words.focus();
  });
  let depth = 0;
  const carriesFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  window.addEventListener("dragenter", (event) => {
    if (carriesFiles(event)) drop.classList.toggle("over", (depth += 1) > 0);
  });
  window.addEventListener("dragleave", (event) => {
    if (carriesFiles(event)) drop.classList.toggle("over", (depth = Math.max(0, depth - 1)) > 0);
  });
  window.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  window.addEventListener("drop", (event) => {
    depth = 0;
    drop.classList.remove("over");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    add(event.dataTransfer.files);
    words.focus();
  });
  window.addEventListener("paste", (event) => {
    const pasted = [...((event.clipboardData && event.clipboardData.files) || [])];
    if (pasted.length) {
      event.preventDefault();
      add(pasted);
    }
  });
  const example = document.getElementById("example");
  if (example) example.addEventListener("click", async () => {
    example.disabled = true;
    try {
      const drawn = await call("/ui/example");
      const bytes = Uint8Array.from(atob(drawn.image), (letter) => letter.charCodeAt(0));
      picked.forEach(({ url }) => URL.revokeObjectURL(url));
      picked = [];
      add([new File([bytes], "example.png", { type: "image/png" })]);
      words.value = drawn.question;
      submit.focus();
    } catch (error) {
      complain(error.message);
    }
    example.disabled = false;
  });

  // --- asking ---

  const call = async (path, options) => {
    let reply;
    try {
      reply = await fetch(path, { credentials: "same-origin", ...options });
    } catch {
      throw new Error("The server cannot be reached. Is it running? Try again.");
    }
    if (!reply.ok) {
      const body = await reply.json().catch(() => null);
      throw new Error((body && body.error && body.error.message) || `The server answered with status ${reply.status}.`);
    }
    return reply.status === 204 ? null : reply.json();
  };
  const base64 = (file) => new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(new Error(`${file.name} cannot be read any more; add it again.`));
    reader.readAsDataURL(file);
  });
  const wish = async () => {
    const field = (name) => form.elements.namedItem(name);
    const bytes = picked.reduce((sum, { file }) => sum + file.size, 0);
    const most = Number(form.dataset.maxBytes) * 0.75;
    if (bytes > most) {
      const size = (bytes / 1048576).toFixed(0);
      throw new Error(`The images are too large: ${size} MB, and this server takes ${(most / 1048576).toFixed(0)} MB a question.`);
    }
    return JSON.stringify({
      question: words.value,
      images: await Promise.all(picked.map(async ({ file }) => ({ name: file.name, data: await base64(file) }))),
      tools: field("tools").checked,
      max_rounds: field("max_rounds").valueAsNumber,
      text_temperature: field("text_temperature").valueAsNumber,
      code_temperature: field("code_temperature").valueAsNumber,
      seed: field("seed").valueAsNumber,
    });
  };
  const ask = async () => {
    if (submit.disabled) return;
    complain("");
    if (!words.value.trim()) {
      complain("Write a question first.");
      words.focus();
      return;
    }
    submit.disabled = true;
    submit.textContent = "Sending …";
    try {
      const reply = await call("/ui/questions", {
        method: "POST", headers: { "content-type": "application/json" }, body: await wish(),
      });
      if (stream) stream.close();
      history.pushState(null, "", reply.path);
      document.title = `${words.value.trim()} · thyme`;
      result.innerHTML = reply.html;
      result.scrollIntoView({ block: "start", behavior: "instant" });
      result.querySelector("h2").focus({ preventScroll: true });
      begin(true);
    } catch (error) {
      complain(error.message);
      submit.disabled = false;
      submit.textContent = "Ask";
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  words.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  window.addEventListener("popstate", () => location.reload());

  // --- following ---

  const begin = (pinned) => {
    const section = document.getElementById("question");
    if (!section) return;
    submit.disabled = true;
    submit.textContent = "Ask";
    stream = follow(section, pinned, () => {
      submit.disabled = false;
      recent();
    });
    recent();
  };
  // Answers may overtake each other: the one that was asked for last counts. Questions of other tabs end without a word
  // to this one, so it asks again while one of them runs.
  const askedBefore = document.getElementById("recent");
  let asked = 0;
  let later = 0;
  const recent = async () => {
    const mine = (asked += 1);
    const reply = await fetch("/ui/recent").catch(() => null);
    const html = reply && reply.ok ? await reply.text() : null;
    if (mine !== asked) return;
    if (html !== null) askedBefore.innerHTML = html;
    askLater();
  };
  const askLater = () => {
    clearTimeout(later);
    if (askedBefore.querySelector('[data-state="running"]')) later = setTimeout(recent, 5000);
  };
  // The window stays with the text that arrives (pinned) until the person scrolls away from it.
  let pin = false;
  for (const kind of ["wheel", "touchmove", "keydown"]) window.addEventListener(kind, () => { pin = false; }, { passive: true });

  const follow = (section, pinned, whenOver) => {
    pin = pinned;
    const part = (name) => section.querySelector(name);
    const steps = part(".steps"), status = part("[role=status]"), clock = part(".clock"), alarm = part(".again");
    const rows = new Map();
    const started = Date.now();
    const timer = setInterval(() => { clock.textContent = `${Math.round((Date.now() - started) / 1000)} s`; }, 1000);
    let state = status.textContent;
    let known = 0;
    let source;

    const row = (key, html) => {
      const holder = document.createElement("template");
      holder.innerHTML = html;
      const fresh = [...holder.content.children];
      const old = rows.get(key);
      if (old) {
        old[0].before(...fresh);
        old.forEach((one) => one.remove());
      } else {
        steps.append(...fresh);
      }
      rows.set(key, fresh);
    };
    const place = (key) => {
      const [first] = rows.get(key);
      return first.querySelector("code, strong") || first.querySelector(".body > p");
    };
    const apply = (patch) => {
      if (patch.kind === "row") row(patch.key, patch.html);
      else if (patch.kind === "text") place(patch.key).append(patch.text);
      else if (patch.kind === "line") line(place(patch.key), patch.html);
      else if (patch.kind === "facts") part(".end").innerHTML = patch.html;
      else status.textContent = state = patch.text;
    };
    const line = (code, html) => {
      while (code.lastChild && code.lastChild.nodeType === Node.TEXT_NODE) code.lastChild.remove();
      const whole = document.createElement("span");
      whole.innerHTML = html;
      whole.append("\n");
      code.append(whole);
    };
    const over = (end) => {
      source.close();
      rest(end.state);
      const answer = end.state === "done" && part(".answer strong");
      if (answer) status.append(element("span", "hidden", `. The answer is ${answer.textContent}`));
      part(".share").hidden = !end.complete;
      if (end.state === "failed") alarmed("It can be asked again.", "Ask again");
      whenOver();
    };
    const rest = (text) => {
      clearInterval(timer);
      clock.textContent = "";
      status.textContent = text;
      part(".now").classList.add("over");
      part("article").setAttribute("aria-busy", "false");
    };
    const shown = () => Promise.all([...section.querySelectorAll(".scene a.zoom")].filter((link) => !link.search).map(async (link, index) => {
      const reply = await fetch(link.href);
      if (!reply.ok) throw new Error("gone");
      return new File([await reply.blob()], `image ${index + 1}`);
    }));
    const alarmed = (text, label) => {
      alarm.firstElementChild.textContent = text;
      alarm.lastElementChild.textContent = label;
      alarm.hidden = false;
    };
    const below = () => steps.getBoundingClientRect().bottom - window.innerHeight;
    const connect = () => {
      source = new EventSource(`${section.dataset.path}/events?after=${known}`);
      source.addEventListener("open", () => {
        alarm.hidden = true;
        status.textContent = state;
      });
      source.addEventListener("patches", (event) => {
        const near = below();
        pin ||= near > -48 && near < 96;
        known = Number(event.lastEventId);
        JSON.parse(event.data).forEach(apply);
        if (pin && below() > -24) window.scrollBy({ top: below() + 24, behavior: "instant" });
      });
      source.addEventListener("end", (event) => over(JSON.parse(event.data)));
      source.addEventListener("error", () => {
        if (source.readyState === EventSource.CLOSED) {
          rest("lost");
          alarmed("The connection to the server was lost, and the server does not know this question any more.", "Ask again");
          whenOver();
        } else {
          status.textContent = "connection lost, trying again";
        }
      });
    };
    section.addEventListener("click", async (event) => {
      const button = event.target.closest("[data-do]");
      if (!button) return;
      if (button.dataset.do === "again") {
        if (!words.value.trim()) words.value = section.dataset.question;
        if (!picked.length) add(await shown().catch(() => []));
        form.scrollIntoView({ block: "start" });
        ask();
        return;
      }
      button.disabled = true;
      await call(`${section.dataset.path}/stop`, { method: "POST" }).catch((error) => alarmed(error.message, "Ask again"));
    });
    connect();
    return { close: () => { source.close(); clearInterval(timer); } };
  };
  begin(false);
  askLater();
})();
