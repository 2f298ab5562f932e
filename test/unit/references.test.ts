/**
 * What documents and comments refer to is there: links, headings, files, scripts, commands, options, error numbers, config
 * keys. A reference in a form that is not looked for here is not found to be dead.
 */
import { globSync, readFileSync } from "node:fs";
import { join, posix, sep } from "node:path";
import type { Command } from "commander";
import { expect, test } from "vitest";
import { everyCommand } from "../../src/cli/cli.ts";

const root = join(import.meta.dirname, "../..");
const text = (file: string) => readFileSync(join(root, file), "utf8");

const SKIPPED = /(^|\/)(node_modules|dist|\.git|\.cache)(\/|$)/;
const everything = globSync("**/*", { cwd: root, exclude: (path) => SKIPPED.test(path) })
  .map((path) => path.split(sep).join("/"))
  .toSorted();
const all = new Set(everything);
const documents = everything.filter((path) => path.endsWith(".md"));
const code = everything.filter((path) => /^(src|connectors|scripts|test|bench)\/.*\.[jt]s$/.test(path));

interface Read {
  readonly file: string;
  readonly text: string;
}

const pages: readonly Read[] = documents.map((file) => ({ file, text: text(file) }));
const comments: readonly Read[] = code.map((file) => ({ file, text: commentsOf(text(file)) }));
const read = [...pages, ...comments];

/** Those that begin a line, and those behind code. */
function commentsOf(source: string): string {
  return [...source.matchAll(/^[ \t]*\/\*[\s\S]*?\*\/|(?:^|[ \t])\/\/ .*$/gm)].join("\n");
}

/** What `find` gives of each text, as lines of a report. */
function dead(texts: readonly Read[], find: (one: Read) => Iterable<string>): readonly string[] {
  return texts.flatMap((one) => [...find(one)].map((name) => `${one.file}: ${name}`));
}

const found = (whole: string, pattern: RegExp): readonly string[] =>
  [...whole.matchAll(pattern)].map(([first, group]) => group ?? first);

test("there are documents and comments to look through", () => {
  expect(pages.length).toBeGreaterThan(40);
  expect(comments.filter((one) => one.text !== "").length).toBeGreaterThan(500);
});

test("a link within the repository leads to a file, and to a heading of it", () => {
  const isDead = (from: string, link: string): boolean => {
    const [path = "", anchor] = link.split("#");
    const target = path === "" ? from : posix.join(posix.dirname(from), path).replace(/\/$/, "");
    if (!all.has(target)) return true;
    return anchor !== undefined && target.endsWith(".md") && !anchorsOf(text(target)).includes(anchor);
  };
  const links = (whole: string) => [
    ...found(whole, /\]\((?!https?:|mailto:)([^)\s]+)/g),
    ...found(whole, /^\[[^\]]+\]: (?!https?:)(\S+)/gm),
    ...found(whole, /(?:href|src|srcset)="(?!https?:|mailto:)([^"]+)"/g),
  ];
  expect(dead(pages, (page) => links(page.text).filter((link) => isDead(page.file, link)))).toEqual([]);
});

test("every page of docs is listed in docs/README.md", () => {
  const listed = found(text("docs/README.md"), /\]\(([\w.-]+\.md)\)/g);
  const there = documents.flatMap((path) => found(path, /^docs\/([^/]+\.md)$/g));
  expect(there.filter((page) => page !== "README.md" && !listed.includes(page))).toEqual([]);
});

/** As code hosts make them of headings. */
function anchorsOf(markdown: string): readonly string[] {
  const bare = markdown.replaceAll(/^```[\s\S]*?^```/gm, "");
  const counts = new Map<string, number>();
  return found(bare, /^#+ (.+)$/gm).map((heading) => {
    const anchor = heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-");
    const count = counts.get(anchor) ?? 0;
    counts.set(anchor, count + 1);
    return count === 0 ? anchor : `${anchor}-${count}`;
  });
}

/** Source files of a server and of others' packages, and what a build makes. */
const ELSEWHERE = new Set(["src/listpack.c", "src/rdb.h", "dist/licenses.txt"]);
const folders = new Set(everything.flatMap((path) => posix.dirname(path).split("/")));
const places = everything.map((path) => `/${path}`);
const known = new Map<string, boolean>();

/** As it is, without its ending, as a beginning of several, or from some folder on. */
function isThere(path: string): boolean {
  const before = known.get(path);
  if (before !== undefined) return before;
  const is = ELSEWHERE.has(path) || places.some((place) => place.includes(`/${path}`));
  known.set(path, is);
  return is;
}

test("a path that is named is there", () => {
  const whole = everything
    .filter((path) => /^(src|connectors|scripts|bench|deploy|examples)\/.*\.\w+$|^Dockerfile$/.test(path))
    .map((file) => ({ file, text: text(file) }));
  const FROM_ROOT = /(?<![\w./*@-])(?:src|connectors|test|scripts|bench|docs|deploy|migrations)\/[\w./-]*\w/g;
  const isDead = (path: string) => !isThere(path);
  expect(dead([...read, ...whole], (one) => found(one.text, FROM_ROOT).filter(isDead))).toEqual([]);
  // Architecture and comments leave the first folders out: `source/stream/pgoutput` of a connector.
  const QUOTED = /`([\w-]+(?:\/[a-z][\w.-]*)+)\/?`/g;
  const BARE = /(?<![\w./`*@:<>"'$-])[a-z][a-z-]+\/[a-z][\w-]+(?:\/[\w-]+)*(?:\.\w+)?(?![\w/(<*-])/g;
  const inFolder = (path: string) => folders.has(path.split("/")[0]!) && isDead(path);
  expect(dead(read, (one) => found(one.text, QUOTED).filter(inFolder))).toEqual([]);
  expect(dead(comments, (one) => found(one.text, BARE).filter(inFolder))).toEqual([]);
  expect(inFolder("reconcile/no-such-file")).toBe(true);
});

test("a file that is named without its folder is there", () => {
  const names = new Set(everything.map((path) => posix.basename(path)));
  const isExample = (file: string) => /^docs\/decisions\/|^CONTRIBUTING.md$|service-suffixes.ts$/.test(file);
  const NAMED = /`([\w.-]+\.(?:ts|sql|sh))`|(?<![\w-])[A-Za-z][\w-]*\.md\b/g;
  const inspected = read.filter(({ file }) => !isExample(file));
  expect(dead(inspected, (one) => found(one.text, NAMED).filter((name) => !names.has(name)))).toEqual([]);
});

test("a decision or an invariant that is cited by its number is written down", () => {
  const numbers = documents.flatMap((path) => found(path, /^docs\/decisions\/0*(\d+)-/g));
  const decisions = new Set(numbers);
  expect(numbers, "each decision has a number of its own").toHaveLength(decisions.size);
  const invariants = new Set(found(text("ARCHITECTURE.md"), /^(\d+)\. \*\*/gm));
  const flaws = ({ text: whole }: Read) => [
    ...found(whole, /\b[Dd]ecision (\d+)/g).filter((number) => !decisions.has(number)),
    ...found(whole, /\b[Ii]nvariant (\d+)/g).filter((number) => !invariants.has(number)),
  ];
  expect(Math.min(decisions.size, invariants.size)).toBeGreaterThan(5);
  expect(dead(read, flaws)).toEqual([]);
});

test("a script that is named is in package.json", () => {
  const { scripts }: { scripts: object } = JSON.parse(text("package.json"));
  const NAMED = /\bnpm run (?:--silent )?([a-z][a-z:]*)/g;
  expect(dead(read, (one) => found(one.text, NAMED).filter((name) => !Object.hasOwn(scripts, name)))).toEqual([]);
});

const program = await everyCommand();

test("a command that is named is one of the program's, with its options", () => {
  expect(program.commands.length).toBeGreaterThan(15);
  const NAMED = /`(?:npx )?millrace ((?:-|[a-z])[^`\n]*)`/g;
  const TYPED = /^(?:\$ )?(?:npx )?millrace ((?:-|[a-z]).*)$/gm;
  const lines = (whole: string) =>
    found(whole, /^ *```(?:sh|bash|console|text)?\n([\s\S]*?)^ *```/gm).flatMap((block) => found(block, TYPED));
  const flaws = (one: Read) =>
    [...found(one.text, NAMED), ...(one.file.endsWith(".md") ? lines(one.text) : [])].flatMap((line) => flawsOf(line));
  expect(dead(read, flaws)).toEqual([]);
  expect(flawsOf("status --jason")).toEqual(["millrace status --jason"]);
  expect(flawsOf("snapshot stop")).toEqual(["millrace snapshot stop"]);
  expect(flawsOf("stats")).toEqual(["millrace stats"]);
  expect(flawsOf("-c shop.yaml snapshot list --json | jq .")).toEqual([]);
});

/** The words of a command line that the program does not know, each behind the command that it was given to. */
function flawsOf(line: string): readonly string[] {
  const words = line.split(/ [|>#&]|;/)[0]!.split(/[\s[\]|]+/);
  const flaws: string[] = [];
  let command: Command = program;
  let path = "millrace";
  for (let i = 0; i < words.length; i++) {
    const [word = "", value] = words[i]!.split("=");
    if (word.startsWith("-")) {
      const option = optionsOf(command).find(({ long, short }) => long === word || short === word);
      if (option === undefined && !["--help", "-h", "-"].includes(word)) flaws.push(`${path} ${word}`);
      if (option?.required === true && value === undefined) i++;
    } else if (/^[a-z]+$/.test(word) && command.commands.length > 0) {
      const inner = command.commands.find((one) => one.name() === word);
      path += ` ${word}`;
      if (inner === undefined && word !== "help") return [...flaws, path];
      command = inner ?? command;
    }
  }
  return flaws;
}

/** Its own and those of what it belongs to. */
function optionsOf(command: Command): Command["options"] {
  return [...command.options, ...(command.parent === null ? [] : optionsOf(command.parent))];
}

test("an option that is named by itself is one of a command, or of a script of ours", () => {
  const own = new Set(allCommands(program).flatMap(({ options }) => options.map(({ long }) => long)));
  const scripts = code
    .filter((path) => /^(bench|scripts|test\/simulation)\//.test(path))
    .map(text)
    .join("\n");
  const isKnown = (name: string) =>
    own.has(name) ||
    scripts.includes(`"${name} `) ||
    scripts.includes(`"${name}"`) ||
    new RegExp(`["\\s]${name.slice(2)}"?: \\{ type:`).test(scripts);
  const NAMED = /`(--[a-z][a-z-]*)[^`]*`/g;
  expect(dead(pages, (one) => found(one.text, NAMED).filter((name) => !isKnown(name)))).toEqual([]);
});

function allCommands(command: Command): readonly Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

test("an error number that is named has its page", () => {
  const numbers = new Set(found(text("docs/errors.md"), /^### (MR\d{4})$/gm));
  expect(numbers.size).toBeGreaterThan(100);
  const NAMED = /\bMR\d{4}\b/g;
  expect(dead(read, (one) => found(one.text, NAMED).filter((number) => !numbers.has(number)))).toEqual([]);
});

test("a config key that docs/config.md names is in the schema", () => {
  const schema: unknown = JSON.parse(text("millrace.schema.json"));
  const roots = Object.keys(Object(fieldOf(schema, "properties")));
  const NAMED = new RegExp(`\`((?:${roots.join("|")})(?:\\.(?:\\w+|<\\w+>))+)\``, "g");
  const keys = found(text("docs/config.md"), NAMED);
  expect(keys.length).toBeGreaterThan(30);
  expect(keys.filter((key) => !hasKey(schema, key.split(".")))).toEqual([]);
  expect(hasKey(schema, ["source", "slots"])).toBe(false);
  expect(hasKey(schema, ["tables", "<table>", "columns", "<column>", "masks"])).toBe(false);
});

/** `<name>` is a key that users choose. */
function hasKey(schema: unknown, [first, ...rest]: readonly string[]): boolean {
  if (first === undefined) return schema !== undefined;
  const choices = fieldOf(schema, "anyOf");
  if (Array.isArray(choices)) return choices.some((one) => hasKey(one, [first, ...rest]));
  const isChosen = first.startsWith("<");
  return hasKey(
    isChosen ? fieldOf(schema, "additionalProperties") : fieldOf(fieldOf(schema, "properties"), first),
    rest,
  );
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Object.getOwnPropertyDescriptor(value, name)?.value : undefined;
}

/** Words that docs/glossary.md has replaced, in names and comments. */
const REPLACED =
  /(?<![a-z])(lanes?|refill(s|er|ing|ed)?|nett(ed|ing|er)|rewind|rewound|parking|parked|tenure|aside|(is|are|be) let in|lets in|readmit(s|ted)?)(?![a-z])/i;

test("the code uses the glossary's words", () => {
  const product = everything.filter((path) => /^(src|connectors)\/.*\.(tsx?|md)$/.test(path));
  const words = (source: string) => source.replaceAll(/([a-z])([A-Z])/g, "$1 $2").split("\n");
  const former = product.flatMap((path) =>
    [path, ...words(text(path))].filter((line) => REPLACED.test(line)).map((line) => `${path}: ${line.trim()}`),
  );
  expect(former).toEqual([]);
});
