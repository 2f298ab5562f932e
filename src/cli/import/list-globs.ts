/**
 * Debezium selects tables and columns by lists of regular expressions that match whole names; Millrace by globs. Only
 * expressions that a glob says exactly are translated.
 */

/** The expressions of a list. As in Debezium, `\,` is a comma inside one. */
export function expressionsOf(list: string): readonly string[] {
  return list
    .split(/(?<!\\),/)
    .map((expression) => expression.trim().replaceAll("\\,", ","))
    .filter((expression) => expression !== "");
}

/** Globs that together match the names that the expression matches. Null if globs can't say it. */
export function globsOf(expression: string): readonly string[] | null {
  const reader = new ExpressionReader(expression.replace(/^\^/, "").replace(/\$$/, ""));
  const globs = reader.alternatives();
  return globs === null || !reader.isAtEnd ? null : globs;
}

/**
 * Globs for names of so many parts. Many lists say `public.*` and mean the schema `public`, whose dot is then one of the
 * expression's.
 */
export function globsOfParts(expression: string, partCount: number): readonly string[] | null {
  const globs = globsOf(expression);
  const hasParts = (glob: string) => glob.split(".").length >= partCount;
  if (globs === null || globs.every(hasParts)) return globs;
  if (expression === ".*") return [Array.from({ length: partCount }, () => "*").join(".")];
  const meant = globsOf(expression.replaceAll(/(?<=\w)\.\*/g, String.raw`\..*`));
  return meant !== null && meant.every(hasParts) ? meant : null;
}

/** A group of many alternatives would fill the file. */
const GLOB_COUNT_MAX = 100;

class ExpressionReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#text.length;
  }

  alternatives(): readonly string[] | null {
    const all: string[] = [];
    do {
      const globs = this.#sequence();
      if (globs === null) return null;
      all.push(...globs);
    } while (this.#takes("|"));
    return all.length > GLOB_COUNT_MAX ? null : all;
  }

  #sequence(): readonly string[] | null {
    let globs: readonly string[] = [""];
    while (!this.isAtEnd && !"|)".includes(this.#text.charAt(this.#at))) {
      const next = this.#part();
      if (next === null || globs.length * next.length > GLOB_COUNT_MAX) return null;
      globs = globs.flatMap((start) => next.map((end) => start + end));
    }
    return globs;
  }

  #part(): readonly string[] | null {
    if (this.#takes("(?:") || this.#takes("(")) {
      const inner = this.alternatives();
      return inner !== null && this.#takes(")") && this.#isOnce() ? inner : null;
    }
    for (const any of [".", "[^.]", String.raw`[^\.]`]) {
      if (this.#takes(`${any}*`)) return this.#isOnce() ? ["*"] : null;
      if (this.#takes(`${any}+`)) return this.#isOnce() ? ["?*"] : null;
    }
    const literal = this.#literal();
    return literal !== null && this.#isOnce() ? [literal] : null;
  }

  /** A dot without `\` is taken for the dot between schema and table, as it is meant in nearly every list. */
  #literal(): string | null {
    const [found, escaped, plain] =
      /^(?:\\([^A-Za-z0-9*?])|([^\\*?+()[\]{}|^$]))/u.exec(this.#text.slice(this.#at)) ?? [];
    if (found === undefined) return null;
    this.#at += found.length;
    return escaped ?? plain ?? null;
  }

  /** No quantifier follows. */
  #isOnce(): boolean {
    return !/^[*+?{]/.test(this.#text.slice(this.#at));
  }

  #takes(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }
}
