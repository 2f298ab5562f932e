/** Finds the source of this machine's apt packages, and the lines for another suite on the same mirror. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Suite } from "./debian.ts";

export type AptSource =
  | { readonly kind: "found"; readonly suite: string; readonly lines: readonly string[] }
  | { readonly kind: "missing"; readonly reason: string };

interface Entry {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  readonly signedBy: string | undefined;
}

export async function aptSource(suite: Suite): Promise<AptSource> {
  const { id, codename } = await release();
  if (codename === undefined) return { kind: "missing", reason: "not a release of Debian or Ubuntu" };
  const entries = await configuredEntries();
  const own = entries.filter(({ suites }) =>
    suites.some((name) => name === codename || name.startsWith(`${codename}-`)),
  );
  const main = own.find(({ suites }) => suites.includes(codename));
  if (main === undefined) return { kind: "missing", reason: `apt has no source for ${codename}` };
  if (suite === "own") return { kind: "found", suite: codename, lines: own.flatMap((entry) => entryLines(entry)) };
  if (id !== "debian") return { kind: "missing", reason: `${suite} is a suite of Debian, and this is ${id}` };
  return { kind: "found", suite, lines: entryLines({ ...main, suites: [suite] }) };
}

function entryLines({ uris, suites, components, signedBy }: Entry): string[] {
  const option = signedBy === undefined ? "" : `[signed-by=${signedBy}] `;
  return uris.flatMap((uri) => suites.map((suite) => `deb ${option}${uri} ${suite} ${components.join(" ")}`));
}

export async function releaseCodename(): Promise<string | undefined> {
  return (await release()).codename;
}

async function release(): Promise<{ id: string; codename: string | undefined }> {
  const text = await readFile("/etc/os-release", "utf8").catch(() => "");
  const field = (name: string): string | undefined =>
    new RegExp(`^${name}="?(?<value>[^"\n]*)"?$`, "m").exec(text)?.groups?.["value"];
  return { id: field("ID") ?? "unknown", codename: field("VERSION_CODENAME") };
}

async function configuredEntries(): Promise<Entry[]> {
  const parts = "/etc/apt/sources.list.d";
  const names = await readdir(parts).catch((): string[] => []);
  const files = ["/etc/apt/sources.list", ...names.map((name) => join(parts, name))];
  const entries: Entry[] = [];
  for (const file of files) {
    const text = await readFile(file, "utf8").catch(() => "");
    entries.push(...(file.endsWith(".sources") ? parseStanzas(text) : parseLines(text)));
  }
  return entries;
}

/** The format of *.list files: `deb [options] uri suite component…`. */
export function parseLines(text: string): Entry[] {
  return [
    ...text.matchAll(/^deb\s+(?:\[(?<options>[^\]]*)\]\s+)?(?<uri>\S+)\s+(?<suite>\S+)\s+(?<rest>[^\n#]+)/gm),
  ].map(({ groups }) => ({
    uris: words(groups?.["uri"]),
    suites: words(groups?.["suite"]),
    components: words(groups?.["rest"]),
    signedBy: /signed-by=(?<path>\S+)/.exec(groups?.["options"] ?? "")?.groups?.["path"],
  }));
}

/** The format of *.sources files: stanzas of `Field: values`, a continued value indented. */
export function parseStanzas(text: string): Entry[] {
  const withoutComments = text.replaceAll(/^#.*\n/gm, "");
  return withoutComments.split(/\n\s*\n/).flatMap((stanza) => {
    const field = (name: string): string | undefined =>
      new RegExp(`^${name}:(?<value>.*(?:\n[ \t].*)*)`, "im").exec(stanza)?.groups?.["value"];
    if (!words(field("Types")).includes("deb") || words(field("Enabled"))[0] === "no") return [];
    const signedBy = words(field("Signed-By"))[0];
    return [
      {
        uris: words(field("URIs")),
        suites: words(field("Suites")),
        components: words(field("Components")),
        // A key that is written inline is one that apt trusts anyway for Debian's own archive.
        signedBy: signedBy?.startsWith("/") === true ? signedBy : undefined,
      },
    ];
  });
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}
