/** One pattern of a selection, as configurations and commands write it. */
export const TABLE_GLOB = /^!?[^.!]+\..+$/s;

/** Selects tables: globs over `schema.table`; `!` excludes, in any spelling of the letters: what is left out is not shown. */
export class TableSelection {
  readonly #patterns: readonly string[];
  /** A configuration may name thousands of tables, and is asked about each of them again and again. */
  readonly #named: ReadonlySet<string>;
  readonly #globs: readonly RegExp[];
  readonly #excluded: readonly RegExp[];
  /** Patterns that name exactly one table: it must be possible to capture it. */
  readonly literals: readonly string[];

  readonly #isOwn: (table: NamedTable) => boolean;

  /**
   * Without patterns, or with excludes only, every table is included. `isOwn`: of Millrace itself; only its name in full
   * means it.
   */
  constructor(patterns: readonly string[], isOwn: (table: NamedTable) => boolean = () => false) {
    this.#patterns = patterns;
    this.#isOwn = isOwn;
    const included = patterns.filter((pattern) => !pattern.startsWith("!"));
    this.literals = included.filter((pattern) => !isGlob(pattern));
    this.#named = new Set(this.literals);
    this.#globs = included.length === 0 ? [/^/] : included.filter(isGlob).map(glob);
    this.#excluded = patterns.filter((pattern) => pattern.startsWith("!")).map((pattern) => spelling(pattern.slice(1)));
  }

  matches(schema: string, table: string): boolean {
    const text = selectedName({ schema, table });
    if (this.#isOwn({ schema, table }) && !this.#named.has(text)) return false;
    if (!this.#includes(text)) return false;
    if (this.#excluded.length === 0) return true;
    const composed = text.normalize(COMPOSED);
    return !this.#excluded.some((pattern) => pattern.test(composed));
  }

  #includes(text: string): boolean {
    return this.#named.has(text) || this.#globs.some((pattern) => pattern.test(text));
  }

  /** The patterns that fit none of these tables, and those with `!` that leave none of them out. */
  idle(tables: readonly NamedTable[]): readonly string[] {
    const names = new Set(tables.map(selectedName));
    const taken = [...names].filter((name) => this.#includes(name));
    return this.#patterns.filter((pattern) => {
      if (pattern.startsWith("!")) return !taken.some((name) => fitsInAnySpelling(pattern.slice(1), name));
      return isGlob(pattern) ? ![...names].some((name) => glob(pattern).test(name)) : !names.has(pattern);
    });
  }

  isLiteral(schema: string, table: string): boolean {
    return this.#named.has(selectedName({ schema, table }));
  }
}

interface NamedTable {
  readonly schema: string;
  readonly table: string;
}

/** The text that patterns are compared with: its first dot is the one behind the schema, whatever is in the two names. */
export function selectedName({ schema, table }: NamedTable): string {
  // No name has a NUL; `?` and `*` fit it.
  return `${schema.replaceAll(".", "\0")}.${table}`;
}

/**
 * The patterns that fit this name, the most exact one first: the name itself, then the glob with more literal characters,
 * then with fewer `*`, then with more `?`. Two that are equal in all of this are in the order of their characters.
 */
export function mostExactFirst<P extends { readonly pattern: string }>(patterns: readonly P[], name: string): P[] {
  const fitting = patterns.filter(({ pattern }) => fits(pattern, name));
  return fitting.toSorted(
    (a, b) => byExactness(a.pattern, b.pattern, name) || (a.pattern < b.pattern ? -1 : Number(a.pattern > b.pattern)),
  );
}

/** True if the pattern is this name, or a glob that matches it. */
export function fits(pattern: string, name: string): boolean {
  return pattern === name || glob(pattern).test(name);
}

/** True if a name fits both globs. */
export function overlap(a: string, b: string): boolean {
  if (a === "" || b === "") return /^\**$/.test(a + b);
  if (a[0] === "*") return overlap(a.slice(1), b) || overlap(a, b.slice(1));
  if (b[0] === "*") return overlap(b, a);
  return (a[0] === b[0] || a[0] === "?" || b[0] === "?") && overlap(a.slice(1), b.slice(1));
}

/** The same, whatever the case of the letters, and however those with accents are composed. */
export function fitsInAnySpelling(pattern: string, name: string): boolean {
  return spelling(pattern).test(name.normalize(COMPOSED));
}

/** For names that are composed. */
function spelling(pattern: string): RegExp {
  let compiled = spellings.get(pattern);
  if (compiled === undefined) spellings.set(pattern, (compiled = new RegExp(glob(pattern.normalize(COMPOSED)), "isu")));
  return compiled;
}

/** Leaves the characters of globs alone, and full width and other forms of a letter are that letter. */
const COMPOSED = "NFKC";

/** Less than zero if `a` is the more exact one of two patterns that fit a name; zero: neither is. */
export function byExactness(a: string, b: string, name: string): number {
  const count = (pattern: string, what: RegExp): number => pattern.match(what)?.length ?? 0;
  return (
    Number(b === name) - Number(a === name) ||
    count(b, /[^*?]/gsu) - count(a, /[^*?]/gsu) ||
    count(a, /\*/g) - count(b, /\*/g) ||
    count(b, /\?/g) - count(a, /\?/g)
  );
}

export function isGlob(pattern: string): boolean {
  return /[*?]/.test(pattern);
}

const globs = new Map<string, RegExp>();
const spellings = new Map<string, RegExp>();

/** What each `*` and `?` of a pattern that fits stands for, in their order. */
export function wildcardsOf(pattern: string, name: string): readonly string[] {
  return glob(pattern).exec(name)?.slice(1) ?? [];
}

/** `*` matches any run of characters, `?` one; all other characters match themselves. Each is compiled once. */
function glob(pattern: string): RegExp {
  const known = globs.get(pattern);
  if (known !== undefined) return known;
  const source = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", "(.*)")
    .replaceAll("?", "(.)");
  const compiled = new RegExp(`^${source}$`, "su");
  globs.set(pattern, compiled);
  return compiled;
}
