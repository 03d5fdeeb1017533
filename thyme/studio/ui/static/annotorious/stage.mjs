// Where Annotorious draws boxes that are not being edited: on a plain 2D canvas. It takes the place of the one of
// Annotorious, which needs WebGL (that servers, remote desktops and old machines lack) and compiles code from strings,
// which the studio's policy forbids. Rectangles only, and nothing inside them: that is what people look at.
const EDGE = "#ff4d3d";

export const stage = (viewer, canvas) => {
  const context = canvas.getContext("2d");
  const boxes = new Map();
  let chosen = new Set();
  let filter = null;
  const point = (x, y) => viewer.viewport.imageToViewerElementCoordinates(new window.OpenSeadragon.Point(x, y));
  const draw = ({ geometry }) => {
    const from = point(geometry.x, geometry.y);
    const to = point(geometry.x + geometry.w, geometry.y + geometry.h);
    context.strokeRect(from.x, from.y, to.x - from.x, to.y - from.y);
  };
  const redraw = () => {
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!viewer.world.getItemCount()) return;
    Object.assign(context, { strokeStyle: EDGE, lineWidth: 2 });
    for (const [id, one] of boxes) {
      if (!chosen.has(id) && (!filter || filter(one))) draw(one.target.selector);
    }
  };
  const add = (annotation) => annotation.target.selector.type === "RECTANGLE" && boxes.set(annotation.id, annotation);
  return {
    redraw,
    addAnnotation: add,
    removeAnnotation: ({ id }) => boxes.delete(id),
    updateAnnotation: (before, after) => {
      boxes.delete(before.id);
      add(after);
    },
    getScale: () => {
      const width = viewer.viewport.getContainerSize().x;
      return (viewer.viewport.getZoom(true) * width) / viewer.world.getContentFactor();
    },
    resize: redraw,
    setFilter: (wanted) => {
      filter = wanted;
      redraw();
    },
    setHovered: () => {},
    setSelected: ({ selected }) => {
      chosen = new Set(selected.filter(({ editable }) => editable).map(({ id }) => id));
      redraw();
    },
    setStyle: () => {},
    setVisible: (seen) => canvas.classList.toggle("hidden", !seen),
    destroy: () => boxes.clear(),
  };
};
