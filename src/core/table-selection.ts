/** One pattern of a selection, as configurations and commands write it. */
export const TABLE_GLOB = /^!?[^.!]+\..+$/s;

/** Selects tables: globs over `schema.table`; `!` excludes. */
export class TableSelection {
  readonly #included: readonly RegExp[];
  readonly #excluded: readonly RegExp[];
  /** Patterns that name exactly one table: it must be possible to capture it. */
  readonly literals: readonly string[];

  /** Without patterns, or with excludes only, every table is included. */
  constructor(patterns: readonly string[]) {
    const included = patterns.filter((pattern) => !pattern.startsWith("!"));
    this.#included = included.length === 0 ? [/^/] : included.map(glob);
    this.#excluded = patterns.filter((pattern) => pattern.startsWith("!")).map((pattern) => glob(pattern.slice(1)));
    this.literals = included.filter((pattern) => !/[*?]/.test(pattern));
  }

  matches(schema: string, table: string): boolean {
    const text = `${schema}.${table}`;
    return (
      this.#included.some((pattern) => pattern.test(text)) && !this.#excluded.some((pattern) => pattern.test(text))
    );
  }

  isLiteral(schema: string, table: string): boolean {
    return this.literals.includes(`${schema}.${table}`);
  }
}

/**
 * The pattern that applies to this name: the name itself, else the matching glob with the most literal characters; of
 * several the first.
 */
export function mostExact<P extends { readonly pattern: string }>(patterns: readonly P[], name: string): P | undefined {
  const matching = patterns.filter(({ pattern }) => pattern === name || glob(pattern).test(name));
  const exactness = ({ pattern }: P) => (pattern === name ? Infinity : pattern.replaceAll(/[*?]/g, "").length);
  return matching.toSorted((a, b) => exactness(b) - exactness(a))[0];
}

export function isGlob(pattern: string): boolean {
  return /[*?]/.test(pattern);
}

const globs = new Map<string, RegExp>();

/** `*` matches any run of characters, `?` one; all other characters match themselves. Each is compiled once. */
function glob(pattern: string): RegExp {
  const known = globs.get(pattern);
  if (known !== undefined) return known;
  const source = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  const compiled = new RegExp(`^${source}$`, "su");
  globs.set(pattern, compiled);
  return compiled;
}
