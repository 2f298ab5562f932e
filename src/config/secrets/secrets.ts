const MASK = "***";
/** Shorter ones are parts of ordinary words: masking them everywhere would spoil the logs, and tell the secret by its gaps. */
const SEARCHED_LENGTH_MIN = 8;
/** The product's own words, for the same reason, although people take them for passwords. */
const OWN_WORDS = new Set(["postgres", "postgresql", "elasticsearch", "opensearch", "millrace", "password"]);
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s/:@"']*:)([^\s@"']+)@/gi;
const SECRET_NAME = /pass(word|phrase|wd)?$|secret|token|api[-_]?key|credential|private[-_]?key|mask[-_]?key/i;
/** What stands before a secret in a text: a URL's user, or a name like those above with `=` or `:`. */
const BEFORE_SECRET = String.raw`:\/\/[^\s/:@]*:|(?:pass(?:word|phrase|wd)?|secret|token|api[-_]?key|credential|private[-_]?key|mask[-_]?key)["']?\s*[=:]\s*["']?`;
/** One string of a JSON text; with the colon it is the name of what follows. */
const JSON_STRING = /"(?:[^"\\]|\\.)*"(\s*:)?/g;

/**
 * Keys of configs, and fields of logs and documents, whose values are shown on purpose, also when they come from a
 * variable or happen to equal a short secret.
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
 * Every value that must not be seen in logs, errors, status or reports. Filled while the config is loaded; whatever
 * prints passes its text through `redact`, or through `redactJson` where it is JSON. A long secret is masked wherever it
 * occurs; a short one where its place tells it: in a URL, after a name like `password=`, or as a whole value.
 */
export class Secrets {
  /** Longest first: a secret may contain another one. */
  #searched: readonly string[] = [];
  readonly #whole = new Set<string>();
  readonly #placed = new Map<string, RegExp>();

  add(value: string): void {
    if (value === "") return;
    // As it may appear in a URL, in JSON and, decoded by a driver, in its message.
    const forms = new Set([value, encodeURIComponent(value), decoded(value), JSON.stringify(value).slice(1, -1)]);
    for (const form of forms) {
      this.#whole.add(form);
      if (isSearched(form)) this.#searched = [...new Set([...this.#searched, form])].toSorted(byLength);
      else this.#placed.set(form, new RegExp(`(${BEFORE_SECRET})${RegExp.escape(form)}(?!\\w)`, "gi"));
    }
  }

  addFromUrl(text: string): void {
    for (const secret of urlSecrets(text)) this.add(secret);
  }

  redact(text: string): string {
    let result = text;
    for (const value of this.#searched) if (result.includes(value)) result = result.replaceAll(value, MASK);
    for (const [value, place] of this.#placed) if (result.includes(value)) result = result.replace(place, `$1${MASK}`);
    return result.includes("://") ? result.replace(URL_PASSWORD, `$1${MASK}@`) : result;
  }

  /** String by string: names of fields and numbers stay, so it is the same document with other texts. */
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

/** The password of a URL, and query parameters that are named like one; by hand, as a wrong URL has them too. */
export function urlSecrets(text: string): readonly string[] {
  const password = /:\/\/[^/:@?#]*:(.*)@/s.exec(text)?.[1];
  const parameters = [...text.matchAll(/[?&]([^=&#]+)=([^&#]*)/g)].filter(([, name = ""]) => isSecretName(name));
  return [...(password === undefined ? [] : [password]), ...parameters.map(([, , value = ""]) => value)];
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

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A stray `%`: the text is not encoded, so it is already what a driver would send.
    return text;
  }
}
