import { isSecretName } from "./secrets.ts";

/** Asked at each connection; see src/passwords. */
const FRESH = new Set(["passwordCommand", "passwordFile"]);
const LOGIN_KEYS = new Set(["url", "catalog", "username", "accessKeyId"]);

/** Where the logins of source, sinks and state come from: that decides whether another one needs a restart. */
export class Logins {
  readonly #given: { readonly path: readonly string[]; readonly references: readonly string[] }[] = [];

  /** One text of the file, and the variables and files that it names. */
  add(path: readonly string[], references: readonly string[]): void {
    const names = path.filter((name) => !/^\d+$/.test(name));
    const isLogin = names.some((name) => FRESH.has(name) || LOGIN_KEYS.has(name) || isSecretName(name));
    // A state can be a text alone.
    if (isLogin || path.length === 1) this.#given.push({ path, references });
  }

  /** For the hint of a login that is refused. Null: the login is not in the file. */
  noteOf(section: readonly string[]): string | null {
    const given = this.#given.filter(({ path }) => section.every((name, depth) => path[depth] === name));
    const fresh = [...FRESH].find((key) => given.some(({ path }) => path.includes(key)));
    if (fresh !== undefined) return `No restart is needed: \`${fresh}\` is asked again at each connection.`;
    const references = [...new Set(given.flatMap((one) => one.references))].map((one) => `\`${one}\``);
    if (references.length === 0)
      return given.length === 0 ? null : "A change in millrace.yaml needs a restart: the file is read at the start.";
    const is = references.length === 1 ? "is" : "are";
    return `After a change on this side a restart is needed: ${references.join(", ")} ${is} read at the start.`;
  }
}
