/** One part of another tool's file: an object whose keys are taken one by one. What is not taken is named. */
import { type Fields, fieldsOf } from "./connector-file.ts";
import { type Findings, UNDECIDED } from "./findings.ts";

/** Why keys are not carried over. A key that ends in `*` stands for all that begin so. */
export interface Reasons {
  /** Nothing is lost without them. */
  readonly needless?: Readonly<Record<string, string>>;
  /** Something behaves otherwise without them. */
  readonly missing?: Readonly<Record<string, string>>;
}

/** The tool's own variable, alone. With a default, or beside other text, the whole becomes a variable of another name. */
const REFERENCE = /^\$\{([A-Za-z_]\w*)\}$/;

export class Section {
  readonly findings: Findings;
  readonly #path: string;
  readonly #fields: Fields;
  readonly #taken = new Set<string>();
  readonly #blocked = new Set<string>();
  /** Tells the part that this one lies in. */
  readonly #whole: ((key: string) => void) | null;

  constructor(findings: Findings, path: string, fields: Fields, whole: ((key: string) => void) | null = null) {
    this.findings = findings;
    this.#path = path;
    this.#fields = fields;
    this.#whole = whole;
  }

  /** Empty texts, null and empty lists are as if they were not there. */
  has(key: string): boolean {
    const value = this.#fields[key];
    return value !== undefined && value !== null && value !== "" && !(Array.isArray(value) && value.length === 0);
  }

  /** True if the key is there, and is not this word, which says that there is nothing. */
  isOtherThan(word: string, key: string): boolean {
    if (this.#fields[key] === word) this.#taken.add(key);
    return this.has(key) && this.#fields[key] !== word;
  }

  /** A text, number or truth value as text. */
  text(key: string): string | null {
    if (!this.has(key)) return null;
    const value = this.#fields[key];
    this.#taken.add(key);
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
      return String(value).trim();
    this.block(key, "its value is no text");
    return null;
  }

  /** A truth value, or its word in any case; what is neither can't be known. */
  flag(key: string): boolean | null {
    const text = this.text(key)?.toLowerCase() ?? null;
    if (text !== null && text !== "true" && text !== "false") this.block(key, "its value is neither true nor false");
    return text === null ? null : text === "true";
  }

  /** A text as the config may have it: it has no reference to a variable of the tool's. */
  plain(key: string, label: string): string | null {
    const text = this.text(key);
    return text?.includes("${") === true ? this.#reference(key, label, text) : text;
  }

  inUrl(key: string, label: string): string | null {
    const text = this.text(key);
    return text?.includes("${") === true ? this.#reference(key, label, text) : text && encodeURIComponent(text);
  }

  /** An address over HTTP, or several: with a login in it it is a secret. */
  address(key: string, label: string): string | null {
    return this.text(key)?.includes("@") === true ? this.secret(key, label) : this.plain(key, label);
  }

  /** The value itself is never written. */
  secret(key: string, label: string): string | null {
    const text = this.text(key);
    return text === null ? null : this.#reference(key, label, text);
  }

  /** Texts of a list, or of one text with commas. Null: there is none. */
  texts(key: string): readonly string[] | null {
    const value = this.#fields[key];
    if (!Array.isArray(value))
      return (
        this.text(key)
          ?.split(",")
          .map((each) => each.trim()) ?? null
      );
    this.#taken.add(key);
    const texts = value.filter((each) => typeof each === "string");
    if (texts.length < value.length || texts.length === 0) this.block(key, "it is no list of texts");
    return texts;
  }

  /** Objects of a list, by their `name` or their place in it. */
  entries(key: string): readonly Section[] {
    this.#taken.add(key);
    const value = this.#fields[key];
    const all: readonly unknown[] = Array.isArray(value) ? value : value === undefined || value === null ? [] : [value];
    return all.map((each, i) => {
      const fields = fieldsOf(each);
      if (fields === null) this.block(key, "it has something that is no object");
      const { name } = fields ?? {};
      return this.#part(`${key}.${typeof name === "string" ? name : i}.`, fields ?? {});
    });
  }

  inner(key: string): Section {
    this.#taken.add(key);
    const fields = fieldsOf(this.#fields[key]);
    if (fields === null && this.has(key)) this.block(key, "its value is no object");
    return this.#part(`${key}.`, fields ?? {});
  }

  leave(key: string, why: string): void {
    this.#taken.add(key);
    this.findings.leave(this.#path + key, why);
  }

  note(key: string, why: string): void {
    this.#taken.add(key);
    this.findings.note(this.#path + key, why);
  }

  /** What it says has to be written by hand: what is made of this part does not load (`undecided`). */
  block(key: string, why: string): void {
    this.#taken.add(key);
    this.#undecide(key);
    this.findings.block(this.#path + key, why);
  }

  /** The keys that begin with this text, and are not taken yet. */
  keysFrom(start: string): readonly string[] {
    return Object.keys(this.#fields).filter((key) => key.startsWith(start) && this.has(key) && !this.#taken.has(key));
  }

  blockFrom(start: string, why: string): void {
    for (const key of this.keysFrom(start)) this.block(key, why);
  }

  /** For what is made of this part: a key that does not load, where something is to be decided first. */
  undecided(): { readonly [UNDECIDED]?: readonly string[] } {
    return this.#blocked.size === 0 ? {} : { [UNDECIDED]: [...this.#blocked] };
  }

  /** Names every key that was not taken. What is not known may select or hide: without `isOpen` it has to be decided. */
  leaveRest({ needless = {}, missing = {} }: Reasons, isOpen = false): void {
    for (const key of Object.keys(this.#fields)) {
      if (this.#taken.has(key) || !this.has(key)) continue;
      const [known, why] = [reasonIn(needless, key), reasonIn(missing, key)];
      if (known !== undefined) this.note(key, known);
      else if (why !== undefined) this.leave(key, why);
      else if (isOpen) this.leave(key, "Millrace does not know this key");
      else this.block(key, "Millrace does not know this key: take it out, or write what it does");
    }
  }

  #part(path: string, fields: Fields): Section {
    return new Section(this.findings, this.#path + path, fields, (key) => this.#undecide(path + key));
  }

  #undecide(key: string): void {
    this.#blocked.add(key);
    this.#whole?.(key);
  }

  #reference(key: string, label: string, text: string): string {
    const theirs = REFERENCE.exec(text)?.[1];
    return this.findings.reference(theirs ?? label, this.#path + key, theirs !== undefined);
  }
}

function reasonIn(reasons: Readonly<Record<string, string>>, key: string): string | undefined {
  const found = Object.keys(reasons).find((keys) =>
    keys.split(" ").some((each) => (each.endsWith("*") ? key.startsWith(each.slice(0, -1)) : each === key)),
  );
  return found === undefined ? undefined : reasons[found];
}

export interface UrlParts {
  readonly kind: string;
  readonly host: string;
  readonly port: string | null;
  readonly user: string | null;
  /** A reference to a variable. */
  readonly password: string | null;
  readonly database?: string | null;
  readonly parameters?: Readonly<Record<string, string>>;
}

/** Each part is as a url has it. */
export function urlOf({ kind, host, port, user, password, database, parameters = {} }: UrlParts): string {
  const login = user === null && password === null ? "" : `${user ?? ""}${password === null ? "" : `:${password}`}@`;
  const named = host.includes("%3A") ? `[${decodeURIComponent(host)}]` : host;
  const query = new URLSearchParams(parameters).toString();
  return `${kind}://${login}${named}${port === null ? "" : `:${port}`}/${database ?? ""}${query === "" ? "" : `?${query}`}`;
}
