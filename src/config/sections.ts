/** The sections of a configuration that are neither source nor sinks, tables nor documents: as the daemon takes them. */
import { basename, dirname, join, resolve } from "node:path";
import type * as z from "zod";
import type { StateAddress } from "../core/contracts/connector.ts";
import { pathOfShare } from "../core/sharing/share.ts";
import { passwordIn } from "../passwords/in-url.ts";
import { freshPassword, idlePassword } from "../passwords/password.ts";
import { tlsSettings } from "../tls/keys.ts";
import type { AdminConfig, NotifyConfig, OtlpConfig, ReconcileConfig, RetentionConfig } from "./config.ts";
import type { ConfigFile } from "./config-file.ts";
import type { Address, topDefinition } from "./daemon-definition.ts";

type Given = z.output<typeof topDefinition>;

/** A state on a server carries the local path of the control socket after `#`. */
export function stateOf(file: ConfigFile, name: string, given: Given["state"], share: number | null): StateAddress {
  const { url, ...password } = typeof given === "object" ? given : { url: given };
  if (url?.startsWith("postgres") === true) {
    const idle = idlePassword(password, passwordIn(url));
    if (idle !== undefined) file.problem("MR1005", ["state", idle[0]], idle[1], "key");
    return {
      url: pathOfShare(`${url}#${localState(file, name)}`, share),
      freshPassword: freshPassword(password, file.folder),
      login: file.loginOf(["state"]),
    };
  }
  const path = url === undefined ? localState(file, name) : resolve(file.folder, url.slice("sqlite:".length));
  return { url: pathOfShare(`sqlite:${path}`, share) };
}

/** Null: it is on a server. */
export function fileOfState({ url }: StateAddress): string | null {
  return url.startsWith("sqlite:") ? url.slice("sqlite:".length) : null;
}

/** Beside the state, if that is a file. */
export function nestOf(file: ConfigFile, name: string, given: Given["nest"], address: StateAddress): string {
  if (given !== undefined) return resolve(file.folder, given);
  const state = fileOfState(address) ?? localState(file, name);
  return join(dirname(state), `${basename(state, ".db")}-documents.db`);
}

function localState({ folder }: ConfigFile, name: string): string {
  return join(folder, ".millrace", `${name}.db`);
}

export function adminOf(file: ConfigFile, admin: Given["admin"]): AdminConfig {
  const listen = admin.listen === false ? null : admin.listen;
  if (listen !== null && !isLoopback(listen) && admin.tokens.length === 0)
    file.problem("MR1005", ["admin", "listen"], "listening beyond loopback needs admin.tokens");
  const hosts = [...(listen === null ? [] : [listen.host]), ...admin.hosts].map((host) => host.toLowerCase());
  return { listen, tokens: admin.tokens, hosts };
}

function isLoopback({ host }: Address): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

export function reconcileOf(file: ConfigFile, given: Given["reconcile"]): ReconcileConfig {
  const { schedule, timeZone, mode, repair, patience, continuous, reports, sign } = given;
  return {
    schedule:
      schedule === undefined
        ? null
        : { cron: schedule, timeZone: timeZone ?? null, mode, repairs: repair, patienceMs: patience },
    continuous:
      continuous === undefined ? null : { maxAgeMs: continuous.maxAge, share: continuous.share, repairs: repair },
    reports:
      reports === undefined ? null : { path: resolve(file.folder, reports), ...file.locate(["reconcile", "reports"]) },
    sign: sign ?? null,
  };
}

export function retentionOf(given: Given["retention"]): RetentionConfig | null {
  return given === undefined ? null : { byteCountMax: given.bytes, policy: given.policy };
}

export function otlpOf({ folder }: ConfigFile, given: Given["telemetry"]): OtlpConfig | null {
  if (given === undefined) return null;
  const { endpoint, headers, interval, traces } = given.otlp;
  return {
    endpoint,
    headers,
    tls: tlsSettings(given.otlp, folder),
    intervalMs: interval,
    traces: traces === undefined ? null : { share: traces.share, slowMs: traces.slowerThan },
  };
}

export function notifyOf({ folder }: ConfigFile, given: Given["notify"]): NotifyConfig | null {
  if (given === undefined) return null;
  const { webhook, secret, level, after } = given;
  const key = secret === undefined ? null : Buffer.from(secret.slice("whsec_".length), "base64");
  return { webhook, tls: tlsSettings(given, folder), key, level, afterMs: after };
}
