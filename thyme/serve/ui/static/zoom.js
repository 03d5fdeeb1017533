// Opens images in a dialog: fitted to the window, or at their original pixels. Links with the class "zoom" open it;
// without this script they lead to the image itself.
"use strict";
(() => {
  const dialog = document.getElementById("zoom");
  if (!dialog) return;
  const view = dialog.querySelector(".zoom-view");
  const image = view.querySelector("img");
  const caption = dialog.querySelector(".zoom-caption");
  const pixels = document.getElementById("zoom-pixels");

  const lay = () => {
    if (!image.naturalWidth) return;
    const exact = pixels.getAttribute("aria-pressed") === "true";
    const room = Math.min((view.clientWidth - 32) / image.naturalWidth, (view.clientHeight - 32) / image.naturalHeight);
    const scale = exact ? 1 : room >= 2 ? Math.min(8, Math.floor(room)) : Math.min(1, room);
    image.classList.toggle("coarse", scale >= 2);
    image.style.width = `${Math.max(1, Math.round(image.naturalWidth * scale))}px`;
    caption.textContent = [image.alt, scale === 1 ? "original pixels" : `shown at ${Math.round(scale * 100)} %`].join(" · ");
  };
  const toggle = () => {
    pixels.setAttribute("aria-pressed", String(pixels.getAttribute("aria-pressed") !== "true"));
    lay();
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.zoom");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    image.alt = link.querySelector("img").alt;
    caption.textContent = image.alt;
    image.style.width = "auto";
    image.src = link.href;
    pixels.setAttribute("aria-pressed", "false");
    dialog.showModal();
    view.focus();
    lay();
  });
  image.addEventListener("load", lay);
  window.addEventListener("resize", () => dialog.open && lay());
  pixels.addEventListener("click", toggle);
  document.getElementById("zoom-close").addEventListener("click", () => dialog.close());
  view.addEventListener("click", () => dialog.close());
  view.addEventListener("keydown", (event) => {
    if (event.key === "Enter") toggle();
  });
  dialog.addEventListener("close", () => image.removeAttribute("src"));
})();
