/** Documents whose fields are listed once, each with what it means: their types, pages and JSON schemas come from that list. */

/** A number in JSON: the form is its unit. */
type NumberForm = "bytes" | "seconds" | "rows" | "tables" | "count" | "number";
/** A string in JSON: `time` is RFC 3339 in UTC, `position` is a log position in the source's own format. */
type TextForm = "text" | "time" | "position";

export type Form =
  | NumberForm
  | TextForm
  | "boolean"
  | { readonly oneOf: readonly string[] }
  | { readonly orNull: Form }
  | { readonly listOf: Form }
  | { readonly object: Fields };

/** May be left out. */
export interface Optional {
  readonly optional: Form;
}

export interface Fields {
  readonly [name: string]: readonly [form: Form | Optional, meaning: string];
}

type ValueOf<F> = F extends NumberForm
  ? number
  : F extends TextForm
    ? string
    : F extends "boolean"
      ? boolean
      : F extends { readonly oneOf: readonly (infer Text)[] }
        ? Text
        : F extends { readonly orNull: infer Inner }
          ? ValueOf<Inner> | null
          : F extends { readonly listOf: infer Item }
            ? readonly ValueOf<Item>[]
            : F extends { readonly object: infer Inner extends Fields }
              ? Described<Inner>
              : F extends { readonly optional: infer Inner }
                ? ValueOf<Inner>
                : never;

/** The type of the document. */
export type Described<F extends Fields> = {
  readonly [Name in keyof F as F[Name][0] extends Optional ? never : Name]: ValueOf<F[Name][0]>;
} & {
  readonly [Name in keyof F as F[Name][0] extends Optional ? Name : never]?: ValueOf<F[Name][0]>;
};

type Emptiable = NumberForm | "boolean" | { readonly orNull: unknown } | { readonly listOf: unknown };
type Empty<F extends Fields> = {
  readonly [Name in keyof F as F[Name][0] extends Emptiable ? Name : never]: ValueOf<F[Name][0]>;
};

/** The document as far as that is clear of one of which nothing is known: null, no items, false or 0. */
export function emptyOf<F extends Fields>(fields: F): Empty<F> {
  const values = Object.entries(fields).map(([name, [form]]) => [name, emptyValue(form)] as const);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- `Emptiable` are the forms that have an empty value
  return Object.fromEntries(values.filter(([, value]) => value !== undefined)) as Empty<F>;
}

function emptyValue(form: Form | Optional): null | false | 0 | readonly never[] | undefined {
  if (typeof form === "object") return "orNull" in form ? null : "listOf" in form ? [] : undefined;
  if (form === "boolean") return false;
  return isText(form) ? undefined : 0;
}

export function isText(form: NumberForm | TextForm): form is TextForm {
  return form === "text" || form === "time" || form === "position";
}
