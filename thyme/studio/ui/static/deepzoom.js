// Images at any zoom, by OpenSeadragon: links with the class "zoom" open the dialog on their image, and lead through all
// images of the page in their order. Without this script they lead to the image itself.
"use strict";
(() => {
  const dialog = document.getElementById("zoom");
  if (!dialog || !window.OpenSeadragon) return;
  const view = dialog.querySelector(".zoom-view");
  const caption = dialog.querySelector(".zoom-caption");
  const scale = dialog.querySelector(".zoom-scale");
  const control = (name) => dialog.querySelector(`[data-zoom="${name}"]`);
  const WHOLE = 2048;
  const TILE = 512;
  let viewer = null;
  let links = [];
  let place = 0;

  const boxesOf = (link) => {
    const scene = link.search ? null : link.closest("[data-boxes]");
    return scene ? JSON.parse(scene.dataset.boxes) : [];
  };
  const size = (link) => [Number(link.dataset.width), Number(link.dataset.height)];
  // A small image comes whole and exact; of a large one only the tiles that are in sight.
  const source = (link) => {
    const [width, height] = size(link);
    const longer = Math.max(width, height);
    if (longer <= WHOLE) return { type: "image", url: link.href };
    const maxLevel = Math.ceil(Math.log2(longer));
    const getTileUrl = (level, x, y) => `${link.href}/${level}/${x}_${y}`;
    return { width, height, tileSize: TILE, tileOverlap: 0, minLevel: Math.log2(TILE), maxLevel, getTileUrl };
  };
  const boxes = (link) => {
    if (control("boxes").getAttribute("aria-pressed") !== "true") return;
    for (const [left, top, right, bottom] of boxesOf(link)) {
      const element = document.createElement("div");
      element.className = "zoom-box";
      const location = viewer.viewport.imageToViewportRectangle(left, top, right - left, bottom - top);
      viewer.addOverlay({ element, location });
    }
  };
  const measure = () => {
    const item = viewer.world.getItemAt(0);
    if (!item) return;
    const zoom = item.viewportToImageZoom(viewer.viewport.getZoom(true));
    scale.textContent = `${Math.round(zoom * 100)} %`;
    viewer.drawer.setImageSmoothingEnabled(zoom < 2);
  };
  const make = () => {
    // OpenSeadragon adds a rule inline unless it finds it there, and inline styles are forbidden here; it is in studio.css.
    const found = document.head.appendChild(document.createElementNS("", "style"));
    found.setAttribute("data-openseadragon-mobile-css", "");
    const made = window.OpenSeadragon({
      element: view,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: false,
      maxZoomPixelRatio: 16,
      minZoomImageRatio: 0.8,
      visibilityRatio: 0.5,
      animationTime: window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.4,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    });
    made.addHandler("open", () => {
      boxes(links[place]);
      measure();
    });
    made.addHandler("update-viewport", measure);
    made.addHandler("open-failed", () => { caption.textContent = "This image cannot be loaded; is the server running?"; });
    return made;
  };
  const show = (index) => {
    place = (index + links.length) % links.length;
    const link = links[place];
    caption.textContent = `${place + 1} of ${links.length} · ${link.querySelector("img").alt}`;
    for (const name of ["previous", "next"]) control(name).disabled = links.length < 2;
    control("boxes").hidden = !boxesOf(link).length;
    viewer.viewport.setRotation(0, true);
    viewer.open(source(link));
  };
  const exact = () => {
    const item = viewer.world.getItemAt(0);
    if (item) viewer.viewport.zoomTo(item.imageToViewportZoom(1));
  };
  const acts = {
    previous: () => show(place - 1),
    next: () => show(place + 1),
    closer: () => viewer.viewport.zoomBy(1.5),
    wider: () => viewer.viewport.zoomBy(1 / 1.5),
    whole: () => viewer.viewport.goHome(),
    pixels: exact,
    turn: () => viewer.viewport.rotateBy(90),
    boxes: () => {
      const pressed = control("boxes").getAttribute("aria-pressed") === "true";
      control("boxes").setAttribute("aria-pressed", String(!pressed));
      viewer.clearOverlays();
      boxes(links[place]);
    },
    close: () => dialog.close(),
  };
  const KEYS = {
    ArrowLeft: "previous", ArrowRight: "next", "+": "closer", "=": "closer", "-": "wider", 0: "whole", 1: "pixels",
    t: "turn", b: "boxes",
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.zoom");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    links = [...document.querySelectorAll("a.zoom")];
    dialog.showModal();
    viewer ||= make();
    show(links.indexOf(link));
    dialog.focus();
  });
  dialog.addEventListener("click", (event) => {
    const button = event.target.closest("[data-zoom]");
    if (button) acts[button.dataset.zoom]();
  });
  dialog.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !act) return;
    event.preventDefault();
    event.stopPropagation();
    if (!control(act).disabled && !control(act).hidden) acts[act]();
  }, true);
  dialog.addEventListener("close", () => viewer && viewer.close());
})();
