const MASK = "***";
/** Shorter values would mask ordinary words all over the logs; short passwords inside URLs are caught by their place. */
const LENGTH_MIN = 4;
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s/:@"']*:)([^\s@"']+)@/gi;
const SECRET_NAME = /pass(word|phrase|wd)?$|secret|token|api[-_]?key|credential|private[-_]?key|mask[-_]?key/i;

/**
 * Every value that must not be seen in logs, errors, status or reports. Filled while the config is loaded; whatever
 * prints passes its text through `redact`.
 */
export class Secrets {
  /** Longest first: a secret may contain another one. */
  #values: readonly string[] = [];

  add(value: string): void {
    if (value.length < LENGTH_MIN) return;
    // As it may appear in a URL, in JSON and, decoded by a driver, in its message.
    const forms = [value, encodeURIComponent(value), decoded(value), JSON.stringify(value).slice(1, -1)];
    const all = new Set([...this.#values, ...forms.filter((form) => form.length >= LENGTH_MIN)]);
    this.#values = [...all].toSorted((a, b) => b.length - a.length);
  }

  addFromUrl(text: string): void {
    for (const secret of urlSecrets(text)) this.add(secret);
  }

  redact(text: string): string {
    let result = text;
    for (const value of this.#values) if (result.includes(value)) result = result.replaceAll(value, MASK);
    return result.includes("://") ? result.replace(URL_PASSWORD, `$1${MASK}@`) : result;
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

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A stray `%`: the text is not encoded, so it is already what a driver would send.
    return text;
  }
}
