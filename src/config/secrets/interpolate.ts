import { resolve } from "node:path";
import { readSmallFile } from "../../core/files.ts";

const SECRET_BYTES_MAX = 64 * 1024;

export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The folder of relative secret files. */
  readonly folder: string;
}

interface Interpolated {
  readonly text: string;
  /** The values of variables and files. */
  readonly inserted: readonly string[];
  /** The references to them, as the file has them. */
  readonly references: readonly string[];
  readonly problems: readonly string[];
}

const REFERENCE = /\$\$\{|\$\{([^}]*)\}?/g;

/** Replaces `${VAR}`, `${VAR:-default}` and `${file:PATH}`; `$${` stands for a literal `${`. One pass, no nesting. */
export function interpolate(text: string, surroundings: Surroundings): Interpolated {
  const inserted: string[] = [];
  const references: string[] = [];
  const problems: string[] = [];
  const result = text.replace(REFERENCE, (whole: string, body: string | undefined) => {
    if (whole === "$${") return "${";
    const value = whole.endsWith("}") ? lookUp(body ?? "", surroundings) : { problem: `"\${" without its "}"` };
    if ("problem" in value) problems.push(value.problem);
    else {
      inserted.push(value.text);
      references.push(`\${${(body ?? "").replace(/:-.*$/s, "")}}`);
    }
    return "text" in value ? value.text : "";
  });
  return { text: result, inserted, references, problems };
}

type Interpolation = { readonly text: string } | { readonly problem: string };

function lookUp(body: string, { environment, folder }: Surroundings): Interpolation {
  if (body.startsWith("file:")) return readSecret(resolve(folder, body.slice("file:".length)));
  const match = /^([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$/s.exec(body);
  if (match === null || body.includes("${"))
    return {
      problem: `"\${${body}}" is not \${VAR}, \${VAR:-default} or \${file:PATH}; write "$\${" for a literal "\${"`,
    };
  const [, name = "", fallback] = match;
  const value = environment[name];
  // As in a shell, an empty variable counts as unset.
  if (value !== undefined && value !== "") return { text: value };
  if (fallback !== undefined) return { text: fallback };
  return { problem: `the environment variable ${name} is ${value === undefined ? "not set" : "empty"}` };
}

function readSecret(path: string): Interpolation {
  try {
    const text = readSmallFile(path, SECRET_BYTES_MAX).replace(/\r?\n$/, "");
    return text === "" ? { problem: `the secret file ${path} is empty` } : { text };
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    return { problem: `the secret file ${path} can't be read (${reason})` };
  }
}
