import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { installed } from "../../core/installation.ts";

export const PAGE_PATH = "/";

export interface Page {
  readonly html: string;
  /** The page's own script and style by their hashes, and requests to where it came from; nothing else. */
  readonly policy: string;
}

let page: Page | undefined;

/** One file with script and style in it, made by scripts/build.ts. Read at the first request. */
export function dashboardPage(): Page {
  page ??= pageOf(readFileSync(installed("dist/dashboard.html"), "utf8"));
  return page;
}

function pageOf(html: string): Page {
  const script = hashesOf(html, "script");
  const style = hashesOf(html, "style");
  const policy = [
    "default-src 'none'",
    `script-src ${script}`,
    `style-src ${style}`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
  return { html, policy };
}

function hashesOf(html: string, tag: "script" | "style"): string {
  const contents = [...html.matchAll(new RegExp(`<${tag}[^>]*>(.*?)</${tag}>`, "gs"))].map(
    ([, content]) => content ?? "",
  );
  return contents.map((content) => `'sha256-${createHash("sha256").update(content).digest("base64")}'`).join(" ");
}
