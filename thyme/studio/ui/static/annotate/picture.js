// A large image at any zoom, by OpenSeadragon, and the box of the target on it, by Annotorious.
"use strict";
const openPicture = (place, image, { editable = false, onBox = () => {}, onShare = () => {}, onFirst = () => {} } = {}) => {
  const { id, width, height } = image;
  // Browsers keep pictures by their address, and another studio at this one has others by the same numbers.
  const which = encodeURIComponent(image.picture);
  const path = `/api/annotation/images/${id}`;
  // OpenSeadragon adds a rule inline unless it finds it there, and inline styles are forbidden here; it is in studio.css.
  const found = document.head.appendChild(document.createElementNS("", "style"));
  found.setAttribute("data-openseadragon-mobile-css", "");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const viewer = window.OpenSeadragon({
    element: place,
    drawer: "canvas",
    tileSources: {
      width, height, tileSize: 512, tileOverlap: 0, minLevel: 9, maxLevel: Math.max(9, Math.ceil(Math.log2(Math.max(width, height)))),
      getTileUrl: (level, x, y) => `${path}/tiles/${level}/${x}_${y}?of=${which}`,
    },
    showNavigationControl: false,
    showNavigator: width > 4000 || height > 4000,
    navigatorPosition: "BOTTOM_LEFT",
    silenceMultiImageWarnings: true,
    maxZoomPixelRatio: 16,
    minZoomImageRatio: 0.8,
    visibilityRatio: 0.5,
    imageLoaderLimit: 6,
    timeout: 120000,
    tileRetryMax: 3,
    tileRetryDelay: 3000,
    animationTime: calm ? 0 : 0.4,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  });
  // Keys belong to the page, but for those that move the image.
  viewer.addHandler("canvas-key", (event) => {
    if (!event.originalEvent.key.startsWith("Arrow")) event.preventDefaultAction = true;
  });
  viewer.addHandler("update-viewport", () => {
    const item = viewer.world.getItemAt(0);
    if (item) viewer.drawer.setImageSmoothingEnabled(Boolean(first && first.getOpacity()) || item.viewportToImageZoom(viewer.viewport.getZoom(true)) < 2);
  });
  // Tiles that did not come while the server was away are asked for again.
  let failed = false;
  viewer.addHandler("tile-load-failed", () => { failed = true; });
  const reload = () => {
    if (failed) viewer.world.resetItems();
    failed = false;
  };

  // --- the box ---

  const annotator = window.AnnotoriousOSD.createOSDAnnotator(viewer, {
    drawingEnabled: false, drawingMode: "drag", autoSave: true, userSelectAction: editable ? "EDIT" : "NONE", theme: "light",
  });
  annotator.setModalSelect(true);
  const TARGET = "target";
  let box = null;
  let ours = false;
  const limit = (value, most) => Math.min(Math.max(Math.round(value), 0), most);
  const boxOf = ({ x, y, w, h }) => [limit(x, width), limit(y, height), limit(x + w, width), limit(y + h, height)];
  const shareOf = (one) => ((one[2] - one[0]) * (one[3] - one[1])) / (width * height);
  const quietly = (act) => {
    ours = true;
    try {
      act();
    } finally {
      ours = false;
    }
  };
  const setBox = (wanted) => quietly(() => {
    box = wanted;
    annotator.cancelSelected();
    if (!wanted) {
      annotator.state.store.clear("REMOTE"); // not LOCAL: Annotorious fails over that in the first 250 ms of a page
      return;
    }
    const [left, top, right, bottom] = wanted;
    const geometry = { x: left, y: top, w: right - left, h: bottom - top, rot: 0, bounds: { minX: left, minY: top, maxX: right, maxY: bottom } };
    annotator.setAnnotations([{ id: TARGET, bodies: [], target: { annotation: TARGET, selector: { type: "RECTANGLE", geometry } } }]);
    if (editable) annotator.setSelected(TARGET);
  });
  const told = (geometry) => {
    setTimeout(() => place.contains(document.activeElement) && document.activeElement.blur(), 0); // keys are the box's now
    box = boxOf(geometry);
    onShare(shareOf(box), box);
    onBox(box);
  };
  annotator.state.store.observe(({ changes }) => {
    const moved = changes.updated && changes.updated.find(({ newValue }) => newValue.id === TARGET);
    if (!ours && moved) told(moved.newValue.target.selector.geometry);
  });
  annotator.on("createAnnotation", ({ target }) => {
    box = null;
    draw(false);
    told(target.selector.geometry);
    setTimeout(() => setBox(box), 0); // once Annotorious has done with it
  });
  annotator.on("deleteAnnotation", ({ id: gone }) => {
    if (gone !== TARGET || ours) return;
    box = null;
    onBox(null);
  });

  // While a box is being drawn, the share is that of what would come of it.
  const at = (event) => {
    const frame = place.getBoundingClientRect();
    return viewer.viewport.viewerElementToImageCoordinates(new window.OpenSeadragon.Point(event.clientX - frame.left, event.clientY - frame.top));
  };
  let from = null;
  place.addEventListener("pointerdown", (event) => { from = annotator.isDrawingEnabled() ? at(event) : null; }, true);
  place.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = at(event);
    const drawn = boxOf({ x: Math.min(from.x, to.x), y: Math.min(from.y, to.y), w: Math.abs(from.x - to.x), h: Math.abs(from.y - to.y) });
    onShare(shareOf(drawn), drawn);
  }, true);
  window.addEventListener("pointerup", () => { from = null; }, true);
  // While one is drawn the box that there is stands aside, or dragging over it would move it.
  const draw = (on) => {
    annotator.setDrawingEnabled(on);
    if (on) quietly(() => annotator.cancelSelected());
    else if (box && editable) quietly(() => annotator.setSelected(TARGET));
    place.classList.toggle("drawing", on);
    place.dispatchEvent(new CustomEvent("drawing", { detail: on }));
  };

  // --- as the model first sees it ---

  let first = null;
  const showFirst = (on) => {
    place.classList.toggle("first", on);
    if (first) {
      first.setOpacity(on ? 1 : 0);
      onFirst(on);
      return;
    }
    if (!on) return;
    viewer.addTiledImage({
      tileSource: { type: "image", url: `${path}/picture?first_view=1&of=${which}` },
      x: 0,
      y: 0,
      width: 1,
      success: ({ item }) => {
        first = item;
        first.setOpacity(place.classList.contains("first") ? 1 : 0);
        onFirst(place.classList.contains("first"));
      },
      error: () => {
        place.classList.remove("first");
        onFirst(null);
      },
    });
  };

  const zoom = (factor) => viewer.viewport.zoomBy(factor).applyConstraints();
  return {
    viewer, setBox, draw, reload, showFirst,
    drawing: () => annotator.isDrawingEnabled(),
    isFirst: () => place.classList.contains("first"),
    shareOf,
    // Pixels of the image that one of the screen shows, at least one.
    step: () => Math.max(1, Math.round(1 / viewer.world.getItemAt(0).viewportToImageZoom(viewer.viewport.getZoom(true)))),
    acts: {
      closer: () => zoom(1.5),
      wider: () => zoom(1 / 1.5),
      whole: () => viewer.viewport.goHome(),
      pixels: () => viewer.viewport.zoomTo(viewer.world.getItemAt(0).imageToViewportZoom(1)),
      target: () => {
        if (!box) throw new Error("There is no box yet. Draw it with B.");
        const [left, top, right, bottom] = box;
        const around = Math.max(right - left, bottom - top, 100);
        viewer.viewport.fitBounds(viewer.viewport.imageToViewportRectangle(left - around, top - around, right - left + 2 * around, bottom - top + 2 * around));
      },
    },
  };
};
