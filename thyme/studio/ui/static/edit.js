// Changing a record: its parts, and running it again.
"use strict";
(() => {
  const main = document.getElementById("content");
  const form = document.getElementById("edit");
  const running = document.getElementById("running");
  const save = form.querySelector('[type="submit"]');
  const blocks = form.querySelector(".blocks");
  const { item, query } = main.dataset;
  let changed = false;

  const parts = () => [...blocks.querySelectorAll(".part")].map((part) => ({
    kind: part.dataset.kind,
    text: part.querySelector("textarea").value,
  }));
  form.addEventListener("input", () => { changed = true; });
  window.addEventListener("beforeunload", (event) => changed && event.preventDefault());
  blocks.addEventListener("click", (event) => {
    const button = event.target.closest("[data-part]");
    if (!button) return;
    changed = true;
    const part = button.closest(".part");
    if (button.dataset.part === "delete") {
      const other = part.nextElementSibling;
      part.remove();
      other.querySelector("textarea").focus();
      return;
    }
    part.after(document.getElementById(`new-${button.dataset.part}`).content.cloneNode(true));
    part.nextElementSibling.querySelector("textarea").focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    studio.run(async () => {
      save.disabled = true;
      running.textContent = "The code runs …";
      try {
        const made = await studio.ask(`/api/items/${item}/edit`, { blocks: parts() });
        changed = false;
        const told = made.revision ? "Saved; the code ran again." : "Nothing was changed; it is as it was made.";
        studio.tell(made.fault ? "" : told);
        await studio.go(`/items/${item}?revision=${made.revision || 0}${query ? `&${query}` : ""}`);
      } finally {
        save.disabled = false;
        running.textContent = "";
      }
    });
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "Tab" && !event.shiftKey && event.target.classList.contains("code") && !event.ctrlKey) {
      // Tab indents code; Escape, then Tab, goes on to the next field.
      if (event.target.dataset.leave) return;
      event.preventDefault();
      const { selectionStart, selectionEnd } = event.target;
      event.target.setRangeText("    ", selectionStart, selectionEnd, "end");
      changed = true;
    } else if (event.key === "Escape" && event.target.classList.contains("code")) {
      event.target.dataset.leave = "1";
    }
  });
  form.addEventListener("focusout", (event) => { delete event.target.dataset.leave; });
  if (main.dataset.leaseS) studio.keep(`/api/items/${item}/lease`, Number(main.dataset.leaseS));
})();
