// Makes annotorious.min.js out of Annotorious: `node build.mjs PACKAGE`, where PACKAGE is the unpacked npm package and
// esbuild can be imported. See README.md beside it.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const whole = readFileSync(join(process.argv[2], "dist/annotorious-openseadragon.es.js"), "utf8");
const only = (found, what) => {
  if (found.length !== 1) throw new Error(`${what} is there ${found.length} times; look what this release changed`);
  return found[0];
};

// From where Pixi begins to where the stage that draws with it ends; what calls it gets ours instead.
const from = only([...whole.matchAll(/^var \w+ = \/\* @__PURE__ \*\/ \(\(r\) => \(r\[r\.WEBGL_LEGACY = 0\]/gm)], "Pixi").index;
const call = only([...whole.matchAll(/\), e\(8, y = (\w+)\(l, k\)\);/g)], "the call of the stage")[1];
const after = only([...whole.matchAll(/^\}, (\w+) = \(r, t\) => \{\n {2}const \[e, i\] = \w+\(r\.element, t\);/gm)], "the end of the stage");
const code = [
  `import { stage as ${call} } from "stage";`,
  whole.slice(0, from),
  `const ${whole.slice(after.index + 3)}`,
].join("\n");

const rest = { stage: readFileSync(join(here, "stage.mjs"), "utf8"), openseadragon: "export default window.OpenSeadragon;" };
await build({
  stdin: { contents: `export { createOSDAnnotator } from "annotorious";`, resolveDir: here },
  bundle: true,
  minify: true,
  charset: "utf8",
  format: "iife",
  globalName: "AnnotoriousOSD",
  target: "es2020",
  outfile: join(here, "annotorious.min.js"),
  banner: { js: "//! Annotorious for OpenSeadragon 3.8.10, drawn without WebGL: see README.md, LICENSE.txt, NOTICES.txt" },
  plugins: [{
    name: "parts",
    setup(building) {
      building.onResolve({ filter: /^(annotorious|stage|openseadragon)$/ }, ({ path }) => ({ path, namespace: "part" }));
      building.onLoad({ filter: /.*/, namespace: "part" }, ({ path }) => ({ contents: path === "annotorious" ? code : rest[path] }));
    },
  }],
});
const css = readFileSync(join(process.argv[2], "dist/annotorious-openseadragon.css"), "utf8");
writeFileSync(join(here, "annotorious.css"), css);
