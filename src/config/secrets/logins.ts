import type { Login } from "../../core/errors.ts";
import { decoded, isSecretName } from "./secrets.ts";

/** Asked at each connection; see src/passwords. */
const FRESH = new Set(["passwordCommand", "passwordFile"]);
const LOGIN_KEYS = new Set(["url", "catalog", "username", "accessKeyId"]);
/** Of the server itself, none beside it. A state can be a text alone. */
const OWN = new Set(["", "url", "catalog", "sasl.username"]);

interface Given {
  readonly path: readonly string[];
  /** Empty: it names none. */
  readonly user: string;
  readonly references: readonly string[];
}

/** Where the logins of source, sinks and state come from: that decides whether another one needs a restart. */
export class Logins {
  readonly #given: Given[] = [];

  /** One text of the file, its variables filled in, and the variables and files that it names. */
  add(path: readonly string[], text: string, references: readonly string[]): void {
    const names = path.filter((name) => !/^\d+$/.test(name));
    const isLogin = names.some((name) => FRESH.has(name) || LOGIN_KEYS.has(name) || isSecretName(name));
    // A state can be a text alone.
    if (isLogin || path.length === 1) this.#given.push({ path: names, user: userIn(names, text), references });
  }

  of(section: readonly string[]): Login {
    const given = this.#given.filter(({ path }) => section.every((name, depth) => path[depth] === name));
    const own = given.find(({ path, user }) => user !== "" && OWN.has(path.slice(section.length).join(".")));
    return { user: own?.user ?? "", note: noteOf(given) };
  }
}

function userIn(path: readonly string[], text: string): string {
  if (path.at(-1) === "username") return text;
  return URL.canParse(text) ? decoded(new URL(text).username) : "";
}

function noteOf(given: readonly Given[]): string | null {
  const fresh = [...FRESH].find((key) => given.some(({ path }) => path.includes(key)));
  if (fresh !== undefined) return `No restart is needed: \`${fresh}\` is asked again at each connection.`;
  const references = [...new Set(given.flatMap((one) => one.references))].map((one) => `\`${one}\``);
  if (references.length === 0)
    return given.length === 0 ? null : "A change in millrace.yaml needs a restart: the file is read at the start.";
  const is = references.length === 1 ? "is" : "are";
  return `After a change on this side a restart is needed: ${references.join(", ")} ${is} read at the start.`;
}
