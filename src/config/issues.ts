import * as z from "zod";
import type { Problem } from "./errors.ts";
import { nearestName, suggestion } from "../rules/nearest.ts";

type Issue = z.core.$ZodIssue;

interface IssueContext {
  /** The path of the parsed part in the file. */
  readonly base: readonly string[];
  /** The part's input to the parser. */
  readonly input: unknown;
  readonly definition: z.ZodType;
  /** Keys that are allowed at the part's top besides those of the definition. */
  readonly alsoKnown?: readonly string[];
  readonly locate: (path: readonly string[], part: "key" | "value") => Pick<Problem, "line" | "column">;
}

/** Turns zod's issues into problems with line, path and the expected form. Never quotes a value: it may be a secret. */
export function problemsOf(issues: readonly Issue[], context: IssueContext): Problem[] {
  return issues.flatMap((issue) => {
    const issuePath = issue.path.map(String);
    if (issue.code === "unrecognized_keys") return issue.keys.map((key) => unknownKey(key, issuePath, context));
    const path = [...context.base, ...issuePath];
    const found = valueAt(context.input, issuePath);
    const isMissing = found === undefined || found === null;
    const message = isMissing ? missing(issue) : wrong(issue, found);
    return [{ code: isMissing ? "MR1006" : "MR1005", path, message, ...context.locate(path, "value") } as const];
  });
}

function unknownKey(key: string, issuePath: readonly string[], context: IssueContext): Problem {
  const known = knownKeys(context.definition, issuePath);
  const all = issuePath.length === 0 ? [...known, ...(context.alsoKnown ?? [])] : known;
  const path = [...context.base, ...issuePath, key];
  return { code: "MR1004", path, message: `unknown key; ${suggestion(key, all)}`, ...context.locate(path, "key") };
}

function missing(issue: Issue): string {
  return `missing; ${expectation(issue)}`;
}

function wrong(issue: Issue, found: unknown): string {
  if (issue.code === "invalid_value" && typeof found === "string") {
    const near = nearestName(found, issue.values.map(String));
    if (near !== undefined) return `${expectation(issue)}; did you mean "${near}"?`;
  }
  return issue.code === "invalid_type" && !isOwnSentence(issue)
    ? `${expectation(issue)}, found ${typeName(found)}`
    : expectation(issue);
}

function expectation(issue: Issue): string {
  if (isOwnSentence(issue)) return issue.message;
  if (issue.code === "invalid_type") return `expected ${TYPE_NAMES[issue.expected] ?? issue.expected}`;
  if (issue.code === "invalid_value") return `expected ${issue.values.map((v) => JSON.stringify(v)).join(" or ")}`;
  if (issue.code === "invalid_key" && issue.issues[0] !== undefined) return expectation(issue.issues[0]);
  if (issue.code === "invalid_union") return eitherOf(issue.errors);
  return issue.message.replace(/^(Too small|Too big|Invalid [a-z]+): /, "");
}

/** What the alternatives of a union expect, each once. */
function eitherOf(forms: readonly (readonly Issue[])[]): string {
  const sentences = new Set(forms.flatMap((issues) => issues.slice(0, 1).map(expectation)));
  return [...sentences].join(", or ");
}

/** Whether the message comes from the definition, not from zod. */
function isOwnSentence(issue: Issue): boolean {
  return !/^(Invalid|Too small|Too big|Unrecognized)/.test(issue.message);
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "a map of keys",
  record: "a map of keys",
};

function typeName(value: unknown): string {
  if (value === null) return "nothing";
  return TYPE_NAMES[Array.isArray(value) ? "array" : typeof value] ?? typeof value;
}

export function valueAt(input: unknown, path: readonly string[]): unknown {
  let value = input;
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = Object.getOwnPropertyDescriptor(value, key)?.value;
  }
  return value;
}

/** Names of the keys that the object at `path` may have. */
function knownKeys(definition: unknown, path: readonly string[]): readonly string[] {
  const at = unwrapped(definition);
  const [next, ...rest] = path;
  if (at instanceof z.ZodObject) return next === undefined ? Object.keys(at.shape) : knownKeys(at.shape[next], rest);
  if (at instanceof z.ZodArray && next !== undefined) return knownKeys(at.element, rest);
  if (at instanceof z.ZodRecord && next !== undefined) return knownKeys(at.valueType, rest);
  return [];
}

function unwrapped(definition: unknown): unknown {
  if (
    definition instanceof z.ZodOptional ||
    definition instanceof z.ZodDefault ||
    definition instanceof z.ZodPrefault ||
    definition instanceof z.ZodNullable
  )
    return unwrapped(definition.unwrap());
  return definition instanceof z.ZodPipe ? unwrapped(definition.in) : definition;
}
