/** PeerDB's statements about peers and mirrors. No message quotes the file: it holds passwords. */
import { cliError } from "../errors.ts";
import type { Fields } from "./connector-file.ts";

export interface Peer {
  /** In lower case. */
  readonly type: string;
  readonly options: Fields;
}

/** One table of a mirror, as `schema.table`. */
export interface Mapping {
  readonly source: string;
  readonly destination: string;
  readonly exclude: readonly string[];
  readonly key: string | null;
}

export interface Mirror {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  readonly mappings: readonly Mapping[];
  /** True: it copies what a query finds. */
  readonly isOfQuery: boolean;
  readonly options: Fields;
}

export interface Statements {
  readonly peers: ReadonlyMap<string, Peer>;
  readonly mirrors: readonly Mirror[];
  /** The first words of the others. */
  readonly others: readonly string[];
}

export function peersAndMirrors(file: string, text: string): Statements {
  const reader = new Reader(file, text.replace(/^\uFEFF/, ""));
  const peers = new Map<string, Peer>();
  const mirrors: Mirror[] = [];
  const others: string[] = [];
  while (!reader.isAtEnd) {
    if (reader.takes(";")) continue;
    const isCreate = reader.takes("create");
    if (isCreate && reader.takes("peer")) {
      const name = reader.createdName();
      reader.expect("from");
      const type = reader.name();
      reader.expect("with");
      if (peers.has(name)) throw givenTwice(file, `the peer ${name}`);
      peers.set(name, { type, options: reader.options() });
    } else if (isCreate && reader.takes("mirror")) {
      const mirror = reader.mirror();
      if (mirrors.some(({ name }) => name === mirror.name)) throw givenTwice(file, `the mirror ${mirror.name}`);
      mirrors.push(mirror);
    } else {
      others.push(isCreate ? `create ${reader.word()}` : reader.word());
      reader.skipStatement();
      continue;
    }
    if (!reader.isAtEnd) reader.expect(";");
  }
  return { peers, mirrors, others };
}

/** Which of them counts is not in the file. */
function givenTwice(file: string, what: string): Error {
  return cliError("MR1140", `${file} has ${what} twice: leave one`);
}

interface Token {
  readonly kind: "word" | "quoted" | "text" | "number" | "sign";
  readonly text: string;
}

const TOKEN =
  /\s+|--[^\n]*|\/\*[^]*?\*\/|(?<word>[\p{L}_][\p{L}\p{N}_$]*)|"(?<quoted>(?:[^"]|"")+)"|'(?<text>(?:[^']|'')*)'|\$(?<tag>\w*)\$(?<body>[^]*?)\$\k<tag>\$|(?<number>\d[\w.]*)|(?<sign>[^\s'"$])/uy;

class Reader {
  readonly #file: string;
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(file: string, text: string) {
    this.#file = file;
    this.#tokens = this.#tokensOf(text);
  }

  get isAtEnd(): boolean {
    return this.#at === this.#tokens.length;
  }

  /** A keyword in any spelling of its letters, or a sign. */
  takes(text: string): boolean {
    const token = this.#tokens[this.#at];
    if (token === undefined || (token.kind !== "word" && token.kind !== "sign")) return false;
    if (token.text.toLowerCase() !== text) return false;
    this.#at += 1;
    return true;
  }

  expect(text: string): void {
    if (!this.takes(text)) throw this.#unread(`\`${text.toUpperCase()}\``);
  }

  /** In lower case, for a message; what is no word is not shown. */
  word(): string {
    const token = this.#tokens[this.#at];
    return token?.kind === "word" ? token.text.toLowerCase() : "a statement";
  }

  /** A peer's or mirror's: PeerDB keeps it in lower case. */
  name(): string {
    return this.#identifier().toLowerCase();
  }

  createdName(): string {
    if (this.takes("if")) {
      this.expect("not");
      this.expect("exists");
    }
    return this.name();
  }

  skipStatement(): void {
    while (!this.isAtEnd && !this.takes(";")) this.#at += 1;
  }

  mirror(): Mirror {
    const name = this.createdName();
    this.expect("from");
    const from = this.name();
    this.expect("to");
    const to = this.name();
    const isOfQuery = this.takes("for");
    if (isOfQuery) this.#value();
    const mappings: Mapping[] = [];
    let options: Fields = {};
    while (this.takes("with"))
      if (this.takes("table")) {
        this.expect("mapping");
        this.#list("(", ")", () => mappings.push(this.#mapping()));
      } else options = { ...options, ...this.options() };
    return { name, from, to, mappings, isOfQuery, options };
  }

  options(): Fields {
    const found: [string, unknown][] = [];
    this.#list("(", ")", () => {
      const key = this.#identifier().toLowerCase();
      this.expect("=");
      if (found.some(([other]) => other === key)) throw givenTwice(this.#file, `the option ${key} in one list`);
      found.push([key, this.#value()]);
    });
    return Object.fromEntries(found);
  }

  #mapping(): Mapping {
    if (this.#tokens[this.#at]?.text !== "{") {
      const source = this.#table();
      this.expect(":");
      return { source, destination: this.#table(), exclude: [], key: null };
    }
    const found = { source: "", destination: "", exclude: [] as string[], key: null as string | null };
    this.#list("{", "}", () => {
      const key = this.#identifier().toLowerCase();
      this.expect(":");
      if (key === "from") found.source = this.#table();
      else if (key === "to") found.destination = this.#table();
      else if (key === "key") found.key = this.#identifier();
      else if (key === "exclude") this.#list("[", "]", () => found.exclude.push(this.#identifier()));
      // What is not known may leave something out.
      else throw this.#unread("from, to, key or exclude");
    });
    return found;
  }

  #list(open: string, close: string, one: () => void): void {
    this.expect(open);
    while (!this.takes(close)) {
      one();
      if (this.takes(close)) return;
      this.expect(",");
    }
  }

  #table(): string {
    const parts = [this.#identifier()];
    while (this.takes(".")) parts.push(this.#identifier());
    return parts.join(".");
  }

  #identifier(): string {
    const token = this.#tokens[this.#at];
    if (token === undefined || token.kind === "sign" || token.kind === "number") throw this.#unread("a name");
    this.#at += 1;
    return token.text;
  }

  #value(): string {
    const token = this.#tokens[this.#at];
    if (token === undefined || token.kind === "sign") throw this.#unread("a value");
    this.#at += 1;
    return token.text;
  }

  #unread(expected: string): Error {
    return cliError(
      "MR1140",
      `${this.#file} can't be read as PeerDB's SQL: ${expected} was expected at token ${this.#at + 1}`,
    );
  }

  #tokensOf(text: string): readonly Token[] {
    const tokens: Token[] = [];
    for (TOKEN.lastIndex = 0; TOKEN.lastIndex < text.length;) {
      const at = TOKEN.lastIndex;
      const found = TOKEN.exec(text);
      if (found === null)
        throw cliError("MR1140", `${this.#file} can't be read as PeerDB's SQL, from its character ${at + 1} on`);
      const { word, quoted, text: literal, body, number, sign } = found.groups ?? {};
      if (word !== undefined) tokens.push({ kind: "word", text: word });
      else if (quoted !== undefined) tokens.push({ kind: "quoted", text: quoted.replaceAll('""', '"') });
      else if (literal !== undefined) tokens.push({ kind: "text", text: literal.replaceAll("''", "'") });
      else if (body !== undefined) tokens.push({ kind: "text", text: body });
      else if (number !== undefined) tokens.push({ kind: "number", text: number });
      else if (sign !== undefined) tokens.push({ kind: "sign", text: sign });
    }
    return tokens;
  }
}
