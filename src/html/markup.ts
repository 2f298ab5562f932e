/** HTML as a type of its own: whatever is not markup already is text, and is escaped where it is put in. */
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

/** A template: names, keys and messages in it can't become tags or attributes. Attribute values stand in double quotes. */
export function markup(fixed: TemplateStringsArray, ...contents: readonly Content[]): Markup {
  return new Markup(fixed.map((text, i) => (i === 0 ? text : `${render(contents[i - 1] ?? "")}${text}`)).join(""));
}

/** A name that others have chosen, in letters of whatever direction: it does not turn what stands around it. */
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
