/** A self-contained page: one file that loads and runs nothing, for every width, light and dark, and print. */
import { createHash } from "node:crypto";
import { type Content, Markup, markup } from "./markup.ts";

export interface DocumentParts {
  readonly title: string;
  /** The style of this page, besides the common style. */
  readonly style: string;
  readonly body: Content;
}

export function htmlDocument({ title, style, body }: DocumentParts): string {
  const css = `${STYLE}${style}`;
  // The policy allows this style by its hash; no other style, no script and no request.
  const digest = createHash("sha256").update(css).digest("base64");
  const policy = `default-src 'none'; style-src 'sha256-${digest}'; base-uri 'none'; form-action 'none'`;
  return markup`<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer"><title>${title}</title><style>${new Markup(css)}</style></head>
<body><main>
${body}
</main></body></html>
`.toString();
}

const LIGHT = `color-scheme:light;--page:#f6f7f9;--card:#fff;--ink:#12202f;--soft:#57646f;--rule:#dde3e8;--track:#e9edf0;
--own:#2563eb;--other:#94a3b8;--good:#15803d;--warning:#b45309;--bad:#b91c1c;--missing:#b91c1c;--extra:#7c3aed;--different:#d97706`;
const DARK = `color-scheme:dark;--page:#0e141b;--card:#17202a;--ink:#e8edf2;--soft:#9aa8b5;--rule:#2b3744;--track:#26323e;
--own:#6ea8fe;--other:#64748b;--good:#4ade80;--warning:#fbbf24;--bad:#f87171;--missing:#f87171;--extra:#c4a1ff;--different:#fbbf24`;

const COLORS: readonly string[] = ["own", "other", "good", "warning", "bad", "missing", "extra", "different"];

const STYLE = `:root{${LIGHT}}
@media (prefers-color-scheme:dark){:root{${DARK}}}
@media print{:root{${LIGHT};--page:#fff}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
-webkit-text-size-adjust:100%;print-color-adjust:exact;-webkit-print-color-adjust:exact}
main{max-width:1060px;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:0 0 .75rem;overflow-wrap:anywhere}
p{margin:.25rem 0}
code{background:var(--track);border-radius:4px;padding:.1em .35em;font-size:.9em;overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:1rem 1.1rem;margin:1rem 0}
.soft{color:var(--soft)}
.bad{color:var(--bad)}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--rule);text-align:right;vertical-align:top}
th{color:var(--soft);font-weight:600;text-align:right}
th.text,td.text{text-align:left}
td.text{overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}
figure{margin:0 0 1.25rem}
figure:last-child{margin-bottom:0}
figcaption{font-weight:600;margin-bottom:.4rem}
svg{display:block;width:100%;overflow:visible}
svg text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--soft)}
.columns svg{width:calc(100% - 60px);margin-left:60px}
${COLORS.map((color) => `svg .${color}{fill:var(--${color})}`).join("")}
svg .grid{stroke:var(--rule)}
svg .mark{stroke:var(--ink);stroke-dasharray:3 3}
svg .touch{fill:transparent}
.bar{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 1rem;margin-bottom:.55rem;font-size:.9rem;break-inside:avoid}
.bar span{overflow-wrap:anywhere}
.bar b{font-weight:600;font-variant-numeric:tabular-nums}
.bar svg{height:10px;background:var(--track);border-radius:3px;flex-basis:100%}
@media print{:root{font-size:11px}body{font-size:11px}main{max-width:none;padding:0}section{break-inside:avoid-page;padding:.6rem 0;border-width:1px 0 0;border-radius:0}
h1,h2,figcaption,thead{break-after:avoid}tr,figure{break-inside:avoid}}
`;
