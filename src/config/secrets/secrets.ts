import { passwordsIn } from "../../passwords/in-url.ts";

const MASK = "***";
/**
 * Shorter secrets are parts of ordinary words. Masking them everywhere would make logs unreadable, and the gaps would
 * reveal the secret.
 */
const SEARCHED_LENGTH_MIN = 8;
/** Millrace's own names are excluded for the same reason, although some users choose them as passwords. */
const OWN_WORDS = new Set(["postgres", "postgresql", "elasticsearch", "opensearch", "millrace", "password"]);
/** A reference to a variable or a file is no secret, nor is the `user:password@host` by which hints show the form of a URL. */
const URL_PASSWORD =
  /([a-z][a-z0-9+.-]*:\/\/(?:[^\s/:@"']*|[^\s/:"'?#]*(?=:[^\s/"'?#]+@)):)(?!\$\{(?:file:)?[^\s:}]+\}@|(?<=:\/\/user:)password@host)([^\s@"']+(?:@[^\s@"'/?#]*(?=@))*)@/gi;
const SECRET_NAME = /pass(word|phrase|wd)?$|secret|token|api[-_]?key|credential|private[-_]?key|mask[-_]?key/i;
/** The text before a secret: the user of a URL, or a name like those above with `=` or `:`. */
const BEFORE_SECRET = String.raw`:\/\/[^\s/:]*:|(?:pass(?:word|phrase|wd)?|secret|token|api[-_]?key|credential|private[-_]?key|mask[-_]?key)["']?\s*[=:]\s*["']?`;
/** One string of a JSON text; with the colon it is a field name. */
const JSON_STRING = /"(?:[^"\\]|\\.)*"(\s*:)?/g;

/**
 * Names of config keys and of fields in logs and documents whose values are public, even if they come from a variable
 * or equal a short secret.
 */
export const PUBLIC_NAMES: ReadonlySet<string> = new Set([
  "name",
  "kind",
  "path",
  "listen",
  "tables",
  "schema",
  "prefix",
  "snapshot",
  "heartbeat",
  "slot",
  "publication",
  "rows",
  "bytes",
  "format",
  "role",
  "state",
  "schedule",
  "timeZone",
  "reports",
  "sink",
  "table",
  "level",
  "phase",
]);

/**
 * All values that must not appear in logs, errors, status or reports. Filled while the config is loaded. Everything
 * that prints passes its text through `redact`, or through `redactJson` for JSON. Long secrets are masked everywhere,
 * short ones only where the context marks them: in a URL, after a name like `password=`, or as a whole value.
 */
export class Secrets {
  /** Longest first, because a secret may contain another one. */
  #searched: readonly string[] = [];
  readonly #whole = new Set<string>();
  readonly #placed = new Map<string, RegExp>();

  add(value: string): void {
    if (value === "") return;
    // The secret as it may appear in a URL, in JSON, and decoded in a driver's message.
    const forms = new Set([value, encodeURIComponent(value), decoded(value), JSON.stringify(value).slice(1, -1)]);
    for (const form of forms) {
      this.#whole.add(form);
      if (isSearched(form)) this.#searched = [...new Set([...this.#searched, form])].toSorted(byLength);
      else this.#placed.set(form, new RegExp(`(${BEFORE_SECRET})${RegExp.escape(form)}(?!\\w)`, "gi"));
    }
  }

  /** Of a password with an `@` as it is, programs show the part behind that as the host. */
  addFromUrl(text: string): void {
    for (const secret of urlSecrets(text)) for (const part of new Set([secret, ...secret.split("@")])) this.add(part);
  }

  redact(text: string): string {
    let result = text;
    for (const value of this.#searched) if (result.includes(value)) result = result.replaceAll(value, MASK);
    for (const [value, place] of this.#placed) if (result.includes(value)) result = result.replace(place, `$1${MASK}`);
    return result.includes("://") ? result.replace(URL_PASSWORD, `$1${MASK}@`) : result;
  }

  /** Redacts string by string: field names and numbers stay, so the document keeps its structure. */
  redactJson(json: string): string {
    let name = "";
    return json.replace(JSON_STRING, (literal: string, colon: string | undefined) => {
      if (colon !== undefined) {
        name = textOf(literal.slice(0, -colon.length));
        return literal;
      }
      const text = textOf(literal);
      const isSecret = this.#whole.has(text) && !PUBLIC_NAMES.has(name);
      const shown = isSecret ? MASK : this.redact(text);
      return shown === text ? literal : JSON.stringify(shown);
    });
  }
}

/** The passwords of a URL (see `passwordsIn`), and query parameters named like secrets. */
export function urlSecrets(text: string): readonly string[] {
  const parameters = [...text.matchAll(/[?&]([^=&#]+)=([^&#]*)/g)].filter(([, name = ""]) => isSecretName(name));
  return [...passwordsIn(text), ...parameters.map(([, , value = ""]) => value)];
}

export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name);
}

function isSearched(form: string): boolean {
  return form.length >= SEARCHED_LENGTH_MIN && !OWN_WORDS.has(form.toLowerCase());
}

function byLength(a: string, b: string): number {
  return b.length - a.length;
}

function textOf(literal: string): string {
  return String(JSON.parse(literal));
}

export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A stray `%`: the text is not encoded, so a driver sends it as it is.
    return text;
  }
}
