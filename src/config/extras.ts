/**
 * What only some configurations need and npm does not install with Millrace, because it is large: optional peers of the
 * package. Whoever configures it adds it; decision 46.
 */
import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import type { Extra } from "../core/contracts/connector.ts";
import { MillraceError } from "../core/errors.ts";
import { installed } from "../core/installation.ts";

/** By npm's names, as in `peerDependencies`. */
export const EXTRA_PACKAGES: Readonly<Record<Extra, readonly string[]>> = {
  duckdb: ["@duckdb/node-api"],
  s3: ["@aws-sdk/client-s3", "@aws-sdk/credential-provider-node"],
  otlp: [
    "@opentelemetry/api",
    "@opentelemetry/exporter-metrics-otlp-proto",
    "@opentelemetry/exporter-trace-otlp-proto",
    "@opentelemetry/resources",
    "@opentelemetry/sdk-metrics",
  ],
};

/** What `telemetry` of a configuration needs. */
export function telemetryExtras({ otlp }: { readonly otlp: object | null }): readonly Extra[] {
  return otlp === null ? [] : ["otlp"];
}

/** What is wrong if one of them is not installed: MR1011, with the command that adds it. */
export function lackOf(extras: readonly Extra[]): MillraceError | undefined {
  const missing = extras.flatMap((extra) => EXTRA_PACKAGES[extra]).filter((name) => !isInstalled(name));
  if (missing.length === 0) return undefined;
  const { peerDependencies }: { readonly peerDependencies: Readonly<Record<string, string>> } = JSON.parse(
    readFileSync(installed("package.json"), "utf8"),
  );
  const wanted = missing.map((name) => `${name}@${peerDependencies[name]}`).join(" ");
  return new MillraceError({
    code: "MR1011",
    kind: "fatal",
    message: `not installed: ${missing.join(", ")}`,
    hint: `\`npm install ${wanted}\` where Millrace is installed, with -g if Millrace is; then again.`,
  });
}

function isInstalled(name: string): boolean {
  try {
    return findPackageJSON(name, import.meta.url) !== undefined;
  } catch {
    return false;
  }
}
