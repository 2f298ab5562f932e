/**
 * The language of `where:` as text: SQL's spelling of comparisons over one row, without functions and arithmetic.
 * docs/rules.md describes it. Here a text becomes an expression; in `condition.ts` an expression becomes a condition over
 * rows.
 */

export type ComparisonOperator = "=" | "<>" | "<" | "<=" | ">" | ">=";

export interface ColumnName {
  readonly kind: "column";
  readonly name: string;
  readonly at: number;
}

export type Literal =
  | { readonly kind: "text" | "number"; readonly text: string; readonly at: number }
  | { readonly kind: "bool"; readonly value: boolean; readonly at: number }
  | { readonly kind: "null"; readonly at: number };

export type Operand = ColumnName | Literal;

export type Expression =
  | { readonly kind: "and" | "or"; readonly left: Expression; readonly right: Expression }
  | { readonly kind: "not"; readonly of: Expression }
  | {
      readonly kind: "compare";
      readonly operator: ComparisonOperator;
      readonly left: Operand;
      readonly right: Operand;
      readonly at: number;
    }
  | { readonly kind: "distinct"; readonly left: Operand; readonly right: Operand; readonly at: number }
  | { readonly kind: "in"; readonly of: Operand; readonly list: readonly Literal[]; readonly at: number }
  | { readonly kind: "like"; readonly of: ColumnName; readonly pattern: string; readonly escape: string | null }
  | { readonly kind: "isNull"; readonly of: ColumnName }
  /** `is true`, `is false`. */
  | { readonly kind: "is"; readonly of: ColumnName; readonly value: boolean }
  /** A boolean column by itself. */
  | { readonly kind: "truth"; readonly of: ColumnName };

/** What is wrong with a condition, and at which character, from 0. It never quotes a literal, because that may be a value. */
export class WhereError extends Error {
  readonly at: number;

  constructor(at: number, message: string) {
    super(message);
    this.name = "WhereError";
    this.at = at;
  }
}

type Kind = "word" | "quoted" | "text" | "number" | "sign" | "end";

interface Token {
  readonly kind: Kind;
  /** Words in lower case; quoted names and texts without their quotes. */
  readonly text: string;
  readonly at: number;
}

const LENGTH_MAX = 20_000;
const DEPTH_MAX = 100;
const TOKEN =
  /\s+|(?<word>[\p{L}_][\p{L}\p{N}_$]*)|"(?<quoted>(?:[^"]|"")+)"|'(?<text>(?:[^']|'')*)'|(?<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\p{L}\p{N}_.]))|(?<sign><=|>=|<>|!=|[=<>(),+-])/uy;
const RESERVED = new Set("and between distinct escape false from ilike in is like not null or true unknown".split(" "));

function tokensOf(text: string): Token[] {
  if (text.length > LENGTH_MAX) throw new WhereError(LENGTH_MAX, `longer than ${LENGTH_MAX} characters`);
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    TOKEN.lastIndex = at;
    const groups = TOKEN.exec(text)?.groups;
    if (groups === undefined) throw new WhereError(at, whyNoToken(text, at));
    const { word, quoted, text: literal, number, sign } = groups;
    if (word !== undefined) tokens.push({ kind: "word", text: folded(word), at });
    else if (quoted !== undefined) tokens.push({ kind: "quoted", text: quoted.replaceAll('""', '"'), at });
    else if (literal !== undefined) tokens.push({ kind: "text", text: literal.replaceAll("''", "'"), at });
    else if (number !== undefined) tokens.push({ kind: "number", text: number, at });
    else if (sign !== undefined) tokens.push({ kind: "sign", text: sign === "!=" ? "<>" : sign, at });
    at = TOKEN.lastIndex;
  }
  tokens.push({ kind: "end", text: "", at: text.length });
  return tokens;
}

function whyNoToken(text: string, at: number): string {
  const character = text[at]!;
  if (character === "'") return "a text without its closing quote";
  if (character === '"') return "a quoted name that is empty or has no closing quote";
  if (/[\d.]/.test(character)) return "not a number";
  return `the character ${JSON.stringify(character)} has no meaning here`;
}

export function parseWhere(text: string): Expression {
  return new Parser(tokensOf(text)).whole();
}

/** The names of the columns that a condition reads. */
export function columnsIn(expression: Expression): readonly string[] {
  const name = (operand: Operand): readonly string[] => (operand.kind === "column" ? [operand.name] : []);
  switch (expression.kind) {
    case "and":
    case "or":
      return [...columnsIn(expression.left), ...columnsIn(expression.right)];
    case "not":
      return columnsIn(expression.of);
    case "compare":
    case "distinct":
      return [...name(expression.left), ...name(expression.right)];
    case "in":
    case "like":
    case "isNull":
    case "is":
    case "truth":
      return name(expression.of);
    default:
      return expression satisfies never;
  }
}

class Parser {
  readonly #tokens: readonly Token[];
  #next = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  whole(): Expression {
    const expression = this.#or();
    if (this.#peek().kind !== "end") throw this.#unexpected("`and`, `or` or the end");
    return expression;
  }

  #or(): Expression {
    if (++this.#depth > DEPTH_MAX) throw new WhereError(this.#peek().at, `nested more than ${DEPTH_MAX} deep`);
    let left = this.#and();
    while (this.#word("or")) left = { kind: "or", left, right: this.#and() };
    this.#depth--;
    return left;
  }

  #and(): Expression {
    let left = this.#not();
    while (this.#word("and")) left = { kind: "and", left, right: this.#not() };
    return left;
  }

  #not(): Expression {
    let isNegated = false;
    while (this.#word("not")) isNegated = !isNegated;
    const of = this.#sign("(") ? this.#inParentheses() : this.#predicate();
    return isNegated ? { kind: "not", of } : of;
  }

  #inParentheses(): Expression {
    const inner = this.#or();
    if (!this.#sign(")")) throw this.#unexpected("a closing parenthesis");
    return inner;
  }

  #predicate(): Expression {
    const left = this.#operand("a column");
    const { at } = this.#peek();
    const operator = this.#comparison();
    if (operator !== null) return { kind: "compare", operator, left, right: this.#operand("a value or a column"), at };
    if (this.#word("is")) return this.#is(left, at);
    const isNegated = this.#word("not");
    const predicate = this.#worded(left, at);
    if (predicate !== null) return isNegated ? { kind: "not", of: predicate } : predicate;
    if (isNegated) throw this.#unexpected("`in`, `between` or `like`");
    if (left.kind === "column") return { kind: "truth", of: left };
    throw this.#unexpected("a comparison");
  }

  #worded(of: Operand, at: number): Expression | null {
    if (this.#word("in")) return { kind: "in", of, list: this.#list(), at };
    if (this.#word("between")) {
      const low = this.#operand("a value or a column");
      if (!this.#word("and")) throw this.#unexpected("`and`");
      const high = this.#operand("a value or a column");
      const from: Expression = { kind: "compare", operator: ">=", left: of, right: low, at };
      return { kind: "and", left: from, right: { kind: "compare", operator: "<=", left: of, right: high, at } };
    }
    if (!this.#word("like")) return null;
    const column = needColumn(of);
    const pattern = this.#literalText("a text as the pattern");
    const escape = this.#word("escape") ? this.#literalText("a text of one character") : "\\";
    if (Array.from(escape).length > 1) throw new WhereError(this.#before().at, "`escape` takes one character");
    return { kind: "like", of: column, pattern, escape: escape === "" ? null : escape };
  }

  #is(left: Operand, at: number): Expression {
    const isNegated = this.#word("not");
    const wrap = (of: Expression): Expression => (isNegated ? { kind: "not", of } : of);
    if (this.#word("null") || this.#word("unknown")) return wrap({ kind: "isNull", of: needColumn(left) });
    if (this.#word("true")) return wrap({ kind: "is", of: needColumn(left), value: true });
    if (this.#word("false")) return wrap({ kind: "is", of: needColumn(left), value: false });
    if (!this.#word("distinct")) throw this.#unexpected("`null`, `true`, `false` or `distinct from`");
    if (!this.#word("from")) throw this.#unexpected("`from`");
    return wrap({ kind: "distinct", left, right: this.#operand("a value or a column"), at });
  }

  #list(): Literal[] {
    if (!this.#sign("(")) throw this.#unexpected("a list in parentheses");
    const list: Literal[] = [];
    do {
      const { at } = this.#peek();
      const value = this.#operand("a value");
      if (value.kind === "column") throw new WhereError(at, "a list holds values only, no columns");
      list.push(value);
    } while (this.#sign(","));
    if (!this.#sign(")")) throw this.#unexpected("a comma or a closing parenthesis");
    return list;
  }

  #operand(wanted: string): Operand {
    const { kind, text, at } = this.#peek();
    const sign = kind === "sign" && (text === "-" || text === "+") ? text : "";
    if (sign !== "") this.#next++;
    const token = this.#peek();
    if (token.kind === "number") {
      this.#next++;
      return { kind: "number", text: (sign === "-" ? "-" : "") + token.text, at };
    }
    if (sign !== "") throw this.#unexpected("a number");
    if (kind === "quoted" || (kind === "word" && !RESERVED.has(text))) {
      this.#next++;
      return { kind: "column", name: text, at };
    }
    if (kind === "text") {
      this.#next++;
      return { kind: "text", text, at };
    }
    if (this.#word("null")) return { kind: "null", at };
    if (this.#word("true")) return { kind: "bool", value: true, at };
    if (this.#word("false")) return { kind: "bool", value: false, at };
    throw this.#unexpected(wanted);
  }

  #literalText(wanted: string): string {
    const token = this.#peek();
    if (token.kind !== "text") throw this.#unexpected(wanted);
    this.#next++;
    return token.text;
  }

  #comparison(): ComparisonOperator | null {
    const { kind, text } = this.#peek();
    if (kind !== "sign" || !isComparison(text)) return null;
    this.#next++;
    return text;
  }

  #word(word: string): boolean {
    const { kind, text } = this.#peek();
    if (kind !== "word" || text !== word) return false;
    this.#next++;
    return true;
  }

  #sign(sign: string): boolean {
    const { kind, text } = this.#peek();
    if (kind !== "sign" || text !== sign) return false;
    this.#next++;
    return true;
  }

  #peek(): Token {
    return this.#tokens[this.#next]!;
  }

  #before(): Token {
    return this.#tokens[this.#next - 1]!;
  }

  #unexpected(wanted: string): WhereError {
    const token = this.#peek();
    const before = this.#tokens[this.#next - 1];
    if (token.kind === "sign" && token.text === "(" && before?.kind === "word" && !RESERVED.has(before.text))
      return new WhereError(before.at, `there are no functions here, \`${before.text}\` among them`);
    return new WhereError(token.at, `expected ${wanted}, found ${foundName(token)}`);
  }
}

function foundName({ kind, text }: Token): string {
  if (kind === "end") return "the end";
  if (kind === "text") return "a text";
  if (kind === "number") return "a number";
  return kind === "quoted" ? `"${text}"` : `\`${text}\``;
}

function isComparison(text: string): text is ComparisonOperator {
  return ["=", "<>", "<", "<=", ">", ">="].includes(text);
}

function needColumn(operand: Operand): ColumnName {
  if (operand.kind === "column") return operand;
  throw new WhereError(operand.at, "expected a column, found a value");
}

/** As Postgres folds names without quotes. */
function folded(word: string): string {
  return word.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());
}
