// One file: what Vite bundles is put into index.html, which becomes ../page.html, the asset that Python fills.
import { rename } from "node:fs/promises";
import { defineConfig } from "vite";

function inlined() {
  return {
    name: "inlined",
    enforce: "post",
    generateBundle(_, bundle) {
      const page = bundle["index.html"];
      for (const [name, file] of Object.entries(bundle)) {
        if (name === "index.html") continue;
        const tag = name.endsWith(".css")
          ? `<style>\n${file.source}</style>`
          : `<script type="module">\n${file.code.replaceAll("</script", "<\\/script")}</script>`;
        page.source = page.source.replace(
          new RegExp(`\\s*<(script|link)[^>]*${name.replaceAll(".", "\\.")}[^>]*>(</script>)?`),
          "",
        );
        const end = name.endsWith(".css") ? "</head>" : "</body>";
        page.source = page.source.replace(end, () => `${tag}\n${end}`);
        delete bundle[name];
      }
    },
    async closeBundle() {
      await rename("build/asset/index.html", process.env.PAGE ?? "../page.html");
    },
  };
}

export default defineConfig({
  base: "./",
  build: {
    outDir: "build/asset",
    target: "es2022",
    assetsDir: "",
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: false,
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  plugins: [inlined()],
});
