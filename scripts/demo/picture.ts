/**
 * Makes the README's moving picture of what the demo prints: `npm run demo | node scripts/demo/picture.ts > docs/images/demo.svg`.
 * The lines appear one after the other; those that do not fit scroll away. It needs no script, so code hosts show it in motion.
 */
import { text } from "node:stream/consumers";

const ROWS = 24;
const LINE_PX = 18;
const CHARACTER_PX = 7.8;
const WIDTH_PX = 880;
const PADDING_PX = 16;
const COLUMNS_MAX = Math.floor((WIDTH_PX - 2 * PADDING_PX) / CHARACTER_PX);
/** After the last line the picture rests before it begins again. */
const REST_LINES = 12;
const LINE_SECONDS = 0.4;

const lines = (await text(process.stdin))
  .trimEnd()
  .split("\n")
  .map((line) => (line.length <= COLUMNS_MAX ? line : `${line.slice(0, COLUMNS_MAX - 1)}…`));
process.stdout.write(picture(lines));

function picture(shown: readonly string[]): string {
  const steps = shown.length + REST_LINES;
  const percent = (step: number) => ((100 * step) / steps).toFixed(3);
  const scrolls = shown.flatMap((_, at) =>
    at < ROWS ? [] : [`${percent(at)}%{transform:translateY(${-(at - ROWS + 1) * LINE_PX}px)}`],
  );
  const appear = shown.map(
    (_, at) => `@keyframes l${at}{0%,${percent(at)}%{opacity:0}${percent(at + 0.01)}%,100%{opacity:1}}`,
  );
  const seconds = steps * LINE_SECONDS;
  const style = [
    `text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#d8dee9;white-space:pre}`,
    `.good{fill:#8fd18b}.bad{fill:#ff8a80}.command{fill:#8ab4f8}`,
    `g{animation:scroll ${seconds}s step-end infinite}`,
    `@keyframes scroll{0%{transform:none}${scrolls.join("")}100%{transform:translateY(${-Math.max(0, shown.length - ROWS) * LINE_PX}px)}}`,
    ...appear,
    ...shown.map((_, at) => `#l${at}{animation:l${at} ${seconds}s step-end infinite}`),
    // Who wants no motion sees the end.
    `@media (prefers-reduced-motion:reduce){text{animation:none!important}g{animation:none;transform:translateY(${-Math.max(0, shown.length - ROWS) * LINE_PX}px)}}`,
  ];
  const height = ROWS * LINE_PX + 2 * PADDING_PX;
  const texts = shown.map(
    (line, at) =>
      `<text id="l${at}"${kindOf(line)} x="${PADDING_PX}" y="${PADDING_PX + (at + 0.8) * LINE_PX}">${escaped(line)}</text>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH_PX}" height="${height}" viewBox="0 0 ${WIDTH_PX} ${height}" role="img">`,
    `<title>The demo: four sinks are filled, the daemon is killed, and every table of every sink equals the source</title>`,
    `<style>${style.join("")}</style>`,
    `<rect width="100%" height="100%" rx="8" fill="#1b1f27"/>`,
    `<svg x="0" y="${PADDING_PX}" width="${WIDTH_PX}" height="${ROWS * LINE_PX}" viewBox="0 ${PADDING_PX} ${WIDTH_PX} ${ROWS * LINE_PX}"><g>`,
    ...texts,
    `</g></svg></svg>`,
    "",
  ].join("\n");
}

function kindOf(line: string): string {
  if (line.startsWith("$ ")) return ' class="command"';
  if (line.startsWith("kill -9")) return ' class="bad"';
  return /equal/.test(line) ? ' class="good"' : "";
}

function escaped(line: string): string {
  return line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
