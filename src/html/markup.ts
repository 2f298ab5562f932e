/** HTML as its own type: everything that is not markup is text, and is escaped when inserted. */
export class Markup {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  toString(): string {
    return this.#text;
  }
}

export type Content = Markup | string | number | readonly Content[];

/**
 * A template. Inserted names, keys and messages can't become tags or attributes. Attribute values are in double quotes.
 */
export function markup(fixed: TemplateStringsArray, ...contents: readonly Content[]): Markup {
  return new Markup(fixed.map((text, i) => (i === 0 ? text : `${render(contents[i - 1] ?? "")}${text}`)).join(""));
}

/** A name in letters of any direction: it must not reverse the text around it. */
export function isolated(text: string): Markup {
  return markup`<bdi>${text}</bdi>`;
}

function render(content: Content): string {
  if (content instanceof Markup) return content.toString();
  if (typeof content === "object") return content.map(render).join("");
  return escaped(String(content));
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escaped(text: string): string {
  return text
    .replaceAll(/[\p{Cc}\p{Cs}]/gu, (character) => (/\s/.test(character) ? " " : "\u{FFFD}"))
    .replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? "");
}
