/** A condition over the rows of one table: `where:` bound to its columns. */
import { type Column, type Origins, whyLeftOut } from "../../core/model/schema.ts";
import {
  type CarriedValue,
  comparisonOf,
  type Family,
  type FamilyName,
  familyOf,
  type JudgedRow,
  literalValue,
  type Value,
} from "./values.ts";
import { type ColumnName, type ComparisonOperator, type Expression, type Operand, WhereError } from "./syntax.ts";

/** SQL's three truth values, and one more: the change lacks a value that decides. */
export const FALSE = 0;
export const TRUE = 1;
export const UNKNOWN = 2;
export const UNTOLD = 3;
export type Truth = typeof FALSE | typeof TRUE | typeof UNKNOWN | typeof UNTOLD;

export interface Condition {
  readonly evaluate: (row: JudgedRow) => Truth;
  /** Names of the columns that it uses. */
  readonly columns: ReadonlySet<string>;
  readonly ordinals: readonly number[];
  /** Of those whose values the log may leave out. */
  readonly longColumns: readonly number[];
  /**
   * Whether a row of which it was TRUE before a change is certain to be one still: what the change leaves out is as it was. False
   * says nothing.
   */
  readonly staysTrue: (row: JudgedRow) => boolean;
  /** What each part says of the row, one digit each, for `ConditionRow.remember`. A part compares columns; `and`, `or` and `not` have none. */
  readonly parts: (row: JudgedRow) => string;
}

/** Throws a `WhereError` if the condition does not fit the columns. */
export function bindWhere(expression: Expression, columns: readonly Column[], origins?: Origins): Condition {
  const names = new Set<string>();
  const binder = new Binder(columns, names, origins);
  const { evaluate, stays } = binder.condition(expression);
  const { parts } = binder;
  const ordinals = columns.flatMap(({ name }, i) => (names.has(name) ? [i] : []));
  const longColumns = ordinals.filter((i) => mayBeLong(columns[i]!.type));
  return {
    evaluate,
    columns: names,
    ordinals,
    longColumns,
    staysTrue: (row) => stays(row, TRUE),
    parts: (row) => parts.map((part) => String(part(row))).join(""),
  };
}

/** Whether Postgres may store a value apart from its row; then a change that leaves it as it is does not tell it. */
export function mayBeLong({ kind }: Column["type"]): boolean {
  switch (kind) {
    case "text":
    case "bytes":
    case "json":
    case "array":
    case "vector":
    case "opaque":
    case "decimal":
      return true;
    case "bool":
    case "int":
    case "float":
    case "date":
    case "time":
    case "timestamp":
    case "uuid":
    case "enum":
      return false;
    default:
      return kind satisfies never;
  }
}

const TRUTHS: readonly Truth[] = [FALSE, TRUE, UNKNOWN];

/** Of what `parts` wrote. */
function truthOf(digit: string | undefined): Truth {
  return TRUTHS[Number(digit)] ?? UNTOLD;
}

type Evaluate = (row: JudgedRow) => Truth;

/** A part of the condition, or several with `and`, `or` and `not`. */
interface Bound {
  readonly evaluate: Evaluate;
  /** Whether the change leaves out all that it reads. */
  readonly isLeftOut: (row: JudgedRow) => boolean;
  /** See `Condition.staysTrue`: the same for FALSE, too. */
  readonly stays: (row: JudgedRow, truth: Decided) => boolean;
}

type Decided = typeof TRUE | typeof FALSE;

type ReadValue = (row: JudgedRow) => CarriedValue;

interface BoundColumn {
  readonly column: Column;
  readonly ordinal: number;
}

class Binder {
  readonly #columns: readonly Column[];
  readonly #names: Set<string>;
  readonly #origins: Origins | undefined;
  readonly parts: Evaluate[] = [];

  constructor(columns: readonly Column[], names: Set<string>, origins: Origins | undefined) {
    this.#columns = columns;
    this.#names = names;
    this.#origins = origins;
  }

  condition(expression: Expression): Bound {
    switch (expression.kind) {
      case "and":
        return joined(this.condition(expression.left), this.condition(expression.right), FALSE);
      case "or":
        return joined(this.condition(expression.left), this.condition(expression.right), TRUE);
      case "not": {
        const { evaluate, isLeftOut, stays } = this.condition(expression.of);
        return {
          evaluate: (row) => negated(evaluate(row)),
          isLeftOut,
          stays: (row, truth) => stays(row, truth === TRUE ? FALSE : TRUE),
        };
      }
      case "compare":
        return this.#part(
          this.#compare(expression.operator, expression.left, expression.right, expression.at),
          expression.left,
          expression.right,
        );
      case "distinct":
        return this.#part(
          this.#distinct(expression.left, expression.right, expression.at),
          expression.left,
          expression.right,
        );
      case "in":
        return this.#part(this.#in(expression), expression.of);
      case "like":
        return this.#part(this.#like(expression), expression.of);
      case "isNull":
        return this.#part(this.#isNull(expression.of), expression.of);
      case "is":
      case "truth":
        return this.#part(this.#truth(expression), expression.of);
      default:
        return expression satisfies never;
    }
  }

  /** Says what it said before where the change leaves out all that it reads. */
  #part(evaluate: Evaluate, ...operands: readonly Operand[]): Bound {
    const i = this.parts.length;
    const read = operands.flatMap((of) => (of.kind === "column" ? [this.#find(of).ordinal] : []));
    const isLeftOut = (row: JudgedRow): boolean => read.every((ordinal) => row.isLeftOut(ordinal));
    const part: Evaluate = (row) => {
      const truth = evaluate(row);
      return truth === UNTOLD && isLeftOut(row) ? truthOf(row.remembered(i)) : truth;
    };
    this.parts.push(part);
    return { evaluate: part, isLeftOut, stays: (row, truth) => isLeftOut(row) || part(row) === truth };
  }

  #compare(operator: ComparisonOperator, left: Operand, right: Operand, at: number): Evaluate {
    const { a, b, compare } = this.#pair(left, right, at);
    const test = TESTS[operator];
    return (row) => {
      const x = a(row);
      const y = b(row);
      if (x === null || y === null) return UNKNOWN;
      if (x === undefined || y === undefined) return UNTOLD;
      return test(compare(x, y)) ? TRUE : FALSE;
    };
  }

  #distinct(left: Operand, right: Operand, at: number): Evaluate {
    const { a, b, compare } = this.#pair(left, right, at);
    return (row) => {
      const x = a(row);
      const y = b(row);
      if (x === undefined || y === undefined) return UNTOLD;
      if (x === null || y === null) return x === y ? FALSE : TRUE;
      return compare(x, y) === 0 ? FALSE : TRUE;
    };
  }

  #in({ of, list, at }: Extract<Expression, { kind: "in" }>): Evaluate {
    const equals = list.map((value) => this.#compare("=", of, value, at));
    return equals.reduce((a, b) => both(a, b, TRUE));
  }

  #like({ of, pattern, escape }: Extract<Expression, { kind: "like" }>): Evaluate {
    const { column, ordinal } = this.#find(of);
    if (familyOf(column)?.name !== "text")
      throw new WhereError(of.at, `column ${JSON.stringify(column.name)} is ${column.native}; \`like\` is for texts`);
    const matches = compileLike(pattern, escape);
    if (matches === null) throw new WhereError(of.at, "the pattern ends in its escape character");
    return (row) => {
      const text = row.text(ordinal, column.type);
      if (text === null) return UNKNOWN;
      if (text === undefined) return UNTOLD;
      return matches(text) ? TRUE : FALSE;
    };
  }

  #isNull(of: ColumnName): Evaluate {
    const { column, ordinal } = this.#find(of);
    return (row) => {
      const text = row.text(ordinal, column.type);
      if (text === undefined) return UNTOLD;
      return text === null ? TRUE : FALSE;
    };
  }

  #truth(expression: Extract<Expression, { kind: "is" | "truth" }>): Evaluate {
    const { column, ordinal } = this.#find(expression.of);
    if (column.type.kind !== "bool") {
      const what = expression.kind === "truth" ? "a comparison is missing" : "`is true` is for truth values";
      throw new WhereError(expression.of.at, `column ${JSON.stringify(column.name)} is ${column.native}; ${what}`);
    }
    const wanted = expression.kind === "is" && !expression.value ? "f" : "t";
    const ofNull = expression.kind === "is" ? FALSE : UNKNOWN;
    return (row) => {
      const text = row.text(ordinal, column.type);
      if (text === undefined) return UNTOLD;
      if (text === null) return ofNull;
      return text === wanted ? TRUE : FALSE;
    };
  }

  #pair(left: Operand, right: Operand, at: number): { a: ReadValue; b: ReadValue; compare: Family["compare"] } {
    if (left.kind === "column" && right.kind === "column") {
      const a = this.#compared(left);
      const b = this.#compared(right);
      if (a.family.name !== b.family.name)
        throw new WhereError(at, `${described(a.column)} and ${described(b.column)} can't be compared`);
      return { a: a.read, b: b.read, compare: comparisonOf(a.family, b.family) };
    }
    const column = left.kind === "column" ? left : right;
    const literal = left.kind === "column" ? right : left;
    if (column.kind !== "column" || literal.kind === "column")
      throw new WhereError(at, "a comparison needs a column on one of its sides");
    const bound = this.#compared(column);
    const value = literalValue(literal, bound.column, bound.family);
    const constant: ReadValue = () => value;
    return {
      a: left === column ? bound.read : constant,
      b: left === column ? constant : bound.read,
      compare: bound.family.compare,
    };
  }

  #compared(name: ColumnName): { readonly column: Column; readonly family: Family; readonly read: ReadValue } {
    const { column, ordinal } = this.#find(name);
    const family = familyOf(column);
    if (family === null) throw new WhereError(name.at, `${described(column)} can only be asked whether it is null`);
    const { type } = column;
    const read = (row: JudgedRow): CarriedValue => {
      const text = row.text(ordinal, type);
      return text == null ? text : valueOf(text, family);
    };
    return { column, family, read };
  }

  #find({ name, at }: ColumnName): BoundColumn {
    const ordinal = this.#columns.findIndex((column) => column.name === name);
    const column = this.#columns[ordinal];
    if (column === undefined) throw new WhereError(at, this.#whyUnknown(name));
    this.#names.add(name);
    return { column, ordinal };
  }

  #whyUnknown(name: string): string {
    const other = this.#columns.find((column) => column.name.toLowerCase() === name.toLowerCase());
    const hint = other === undefined ? "" : `; a name with capitals stands in double quotes: "${other.name}"`;
    return `there is no column ${JSON.stringify(name)}${hint}${whyLeftOut(name, this.#origins)}`;
  }
}

const DATED: ReadonlySet<FamilyName> = new Set(["date", "timestamp", "timestamptz"]);

const TESTS: Readonly<Record<ComparisonOperator, (order: number) => boolean>> = {
  "=": (order) => order === 0,
  "<>": (order) => order !== 0,
  "<": (order) => order < 0,
  "<=": (order) => order <= 0,
  ">": (order) => order > 0,
  ">=": (order) => order >= 0,
};

/**
 * Every text of the source is valid for its type, or it is a MySQL date that does not exist, which counts as null here as
 * it does outside of keys.
 */
function valueOf(text: string, family: Family): Value | null {
  const value = family.read(text);
  if (value === undefined && DATED.has(family.name)) return null;
  if (value === undefined) throw new Error(`a ${family.name} of the source can't be read`);
  return value;
}

/** `and` (decided by FALSE) or `or` (decided by TRUE). */
function both(left: Evaluate, right: Evaluate, decisive: Truth): Evaluate {
  return (row) => {
    const a = left(row);
    if (a === decisive) return a;
    const b = right(row);
    if (b === decisive) return b;
    if (a === UNTOLD || b === UNTOLD) return UNTOLD;
    return a === UNKNOWN ? a : b;
  };
}

function joined(left: Bound, right: Bound, decisive: Decided): Bound {
  const evaluate = both(left.evaluate, right.evaluate, decisive);
  const isLeftOut = (row: JudgedRow): boolean => left.isLeftOut(row) && right.isLeftOut(row);
  return {
    evaluate,
    isLeftOut,
    // Where it takes both sides for this truth, both had it. Otherwise nobody knows which side it was.
    stays: (row, truth) =>
      isLeftOut(row) ||
      evaluate(row) === truth ||
      (truth !== decisive && left.stays(row, truth) && right.stays(row, truth)),
  };
}

function negated(truth: Truth): Truth {
  if (truth === TRUE) return FALSE;
  return truth === FALSE ? TRUE : truth;
}

function described({ name, native }: Column): string {
  return `column ${JSON.stringify(name)}, which is ${native},`;
}

/** SQL's LIKE: `%` is any run of characters, `_` is one. Needs linear space, and never backtracks beyond the last `%`. */

const ANY = 0;
const ONE = 1;

/** Null if the pattern ends in its escape character. */
function compileLike(pattern: string, escape: string | null): ((text: string) => boolean) | null {
  const parts: (string | typeof ANY | typeof ONE)[] = [];
  let isEscaped = false;
  for (const character of pattern) {
    if (!isEscaped && character === escape) {
      isEscaped = true;
      continue;
    }
    if (!isEscaped && character === "%") parts.push(ANY);
    else parts.push(!isEscaped && character === "_" ? ONE : character);
    isEscaped = false;
  }
  return isEscaped ? null : (text) => matches(parts, Array.from(text));
}

function matches(parts: readonly (string | number)[], text: readonly string[]): boolean {
  let part = 0;
  let at = 0;
  let lastAny = -1;
  let restart = 0;
  while (at < text.length) {
    const wanted = parts[part];
    if (wanted === ANY) {
      lastAny = part++;
      restart = at;
    } else if (wanted !== undefined && (wanted === ONE || wanted === text[at])) {
      part++;
      at++;
    } else if (lastAny >= 0) {
      part = lastAny + 1;
      at = ++restart;
    } else return false;
  }
  while (parts[part] === ANY) part++;
  return part === parts.length;
}
