/** Passwords that must turn up nowhere, and the search for them in every form that a program may give them. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { eventually } from "../run/waiting.ts";

/** Every character that URLs, JSON, YAML, SQL or a shell treat in a way of their own, between two parts to be known by. */
const SPECIAL = `@/:#?%20 "'\\&=+é{}$`;

export class Canary {
  readonly password: string;
  readonly #forms: ReadonlyMap<string, string>;

  /** `label` tells the canaries of one run apart: letters and digits. */
  constructor(label: string, special = SPECIAL) {
    const [head, tail] = [`Canary${label}x7Q`, `z9K${label}Yranac`];
    this.password = `${head}${special}${tail}`;
    const { password } = this;
    const forms: [string, string][] = [
      // Parts of it would tell too much as well.
      ["its beginning", head],
      ["its end", tail],
      ["percent-encoded", encodeURIComponent(password)],
      ["JSON", JSON.stringify(password).slice(1, -1)],
      ["JSON in JSON", JSON.stringify(JSON.stringify(password)).slice(3, -3)],
      ["hexadecimal", Buffer.from(password).toString("hex")],
    ];
    // What lies before it decides the alignment of base64: each of the three, without what depends on the neighbours.
    for (const before of [0, 1, 2]) {
      const encoded = Buffer.from("u".repeat(before) + password).toString("base64");
      const inner = encoded.slice(before === 0 ? 0 : 4, -4);
      forms.push(["base64", inner], ["base64url", inner.replaceAll("+", "-").replaceAll("/", "_")]);
    }
    this.#forms = new Map(forms.map(([name, text]) => [text, name]));
  }

  /** As it has to stand in a URL. */
  get encoded(): string {
    return encodeURIComponent(this.password);
  }

  /** Where and in which form it is found, without repeating it. */
  foundIn(place: string, text: string): string[] {
    return [...this.#forms].flatMap(([form, name]) => (text.includes(form) ? [`${place}: ${name}`] : []));
  }
}

/** The bytes of all files below a folder, as text that shows every ASCII sequence in them; a daemon may remove some meanwhile. */
export function filesBelow(folder: string, except: readonly string[] = []): [string, string][] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && !except.includes(entry.name),
  );
  return files.flatMap(({ name, parentPath }): [string, string][] => {
    const path = join(parentPath, name);
    try {
      return [[name, readFileSync(path, "latin1")]];
    } catch (error) {
      if (existsSync(path)) throw error;
      return [];
    }
  });
}

/** In every value that rules hide, and in no other. */
export const CANARY = "Kanarienvogel";
export const SHOWN = "Singvogel";

interface Written {
  readonly installation: { readonly folder: string };
  readonly daemon: { readonly said: string };
}

/** Files of a pipeline in which the text turns up, and its log. */
export async function placesWith(text: string, { installation, daemon }: Written): Promise<string[]> {
  // A file may go while they are read.
  const files = await eventually(async () => filesBelow(installation.folder, ["millrace.yaml"]));
  const found = [...files, ["log", daemon.said] as const];
  return found.filter(([, content]) => content.includes(text)).map(([name]) => name);
}

export async function expectHidden(pipeline: Written): Promise<void> {
  expect(await placesWith(CANARY, pipeline)).toEqual([]);
  // What is searched for the one is searched for the other.
  await eventually(async () => expect((await placesWith(SHOWN, pipeline)).length).toBeGreaterThan(0));
}

/** What other users of the machine see of a process and of its children. */
export function publicFaceOf(pid: number): string {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
  const own = ["cmdline", "comm", "status"].map((name) => readFileSync(`/proc/${pid}/${name}`, "utf8"));
  return [...own, ...children.map(publicFaceOf)].join("\n");
}
