import type { KeyObject } from "node:crypto";
import type { TlsSettings } from "../tls/options.ts";
import type { Login } from "../core/errors.ts";
import type { OnLost, Sink } from "../core/contracts/sink.ts";
import type { Source } from "../core/contracts/source.ts";
import type { Neighbour, StateAddress } from "../core/contracts/connector.ts";
import type { Division } from "../core/sharing/share.ts";
import type { WantedDocument } from "../documents/document.ts";
import type { Rules } from "../rules/definition.ts";
import type { Bound } from "./connectors.ts";
import type { Address } from "./daemon-definition.ts";

/** A loaded millrace.yaml: everything valid, defaulted and in base units. */
export interface Config {
  readonly name: string;
  /** The file and its folder, absolute. */
  readonly file: string;
  /** SHA-256 of the file's text when it was read, in hexadecimal digits. */
  readonly digest: string;
  readonly folder: string;
  readonly source: SourceConfig;
  readonly state: StateAddress;
  readonly sinks: readonly SinkConfig[];
  /** Rules per table, applied before every sink. */
  readonly rules: Rules;
  readonly documents: readonly WantedDocument[];
  /** The absolute path of the file for the rows that documents are made of. */
  readonly nest: string;
  readonly reconcile: ReconcileConfig;
  /** Null: the source keeps what sinks lack, however much. */
  readonly retention: RetentionConfig | null;
  /** Null: nobody is told. */
  readonly notify: NotifyConfig | null;
  /** Null: metrics are not sent by OTLP. */
  readonly otlp: OtlpConfig | null;
  readonly admin: AdminConfig;
  /** Null: one daemon has all tables. */
  readonly shares: SharesConfig | null;
  /** What other users may do with the file although they should not; null: nothing. */
  readonly exposure: Exposure | null;
}

export interface SharesConfig {
  readonly division: Division;
  /** The `name` in the file; the daemon of a share has a name of its own. */
  readonly name: string;
  /** The share that this configuration is of; null: all of them, for which no daemon runs. */
  readonly number: number | null;
}

export interface OtlpConfig {
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: TlsSettings;
  readonly intervalMs: number;
  /** Null: none are sent. */
  readonly traces: { readonly share: number; readonly slowMs: number } | null;
}

export interface RetentionConfig {
  readonly byteCountMax: number;
  readonly policy: "alarm" | "pauseSource" | "dropSink";
}

export interface Exposure {
  readonly what: string;
  readonly fix: string;
}

export interface SourceConfig {
  readonly kind: string;
  readonly login: Login;
  /** Empty: every user table with a usable key. */
  readonly tables: readonly string[];
  readonly snapshot: "initial" | "none";
  readonly heartbeatMs: number;
  readonly connector: Bound<Source>;
}

export interface SinkConfig {
  readonly name: string;
  readonly kind: string;
  /** What it writes into, for people; undefined: the options do not tell. */
  readonly place: string | undefined;
  readonly login: Login;
  /** Empty: all tables of the source. Of a sink of documents, those that they are to it. */
  readonly tables: readonly string[];
  /** Null: it takes tables. */
  readonly documents: readonly string[] | null;
  readonly onPoison: "deadLetter" | "pause";
  readonly deadLettersMax: number;
  /** Undefined: the default of this kind of sink. */
  readonly onLost: OnLost | undefined;
  readonly batch: {
    readonly rowCountMax: number | null;
    readonly byteCountMax: number | null;
    readonly delayMs: number | null;
    readonly answerMsMax: number | null;
  };
  readonly neighbours: readonly Neighbour[];
  readonly connector: Bound<Sink>;
}

/** Comparisons all day. */
export interface Continuous {
  readonly maxAgeMs: number;
  /** Of the time of the source, and of each sink; in (0, 1]. */
  readonly share: number;
  readonly repairs: boolean;
}

export interface ReconcileConfig {
  /** Null: only on demand. */
  readonly schedule: Schedule | null;
  /** Null: none. */
  readonly continuous: Continuous | null;
  readonly reports: ReportsFolder | null;
  /** The private key (Ed25519) that signs reports; null: none is signed. */
  readonly sign: KeyObject | null;
}

export interface NotifyConfig {
  readonly webhook: string;
  readonly tls: TlsSettings;
  /** The bytes that sign each message; null: none is signed. */
  readonly key: Buffer | null;
  readonly level: "act" | "watch";
  readonly afterMs: number;
}

export interface Schedule {
  readonly cron: string;
  /** Null: the machine's time zone. */
  readonly timeZone: string | null;
  readonly mode: "full" | "fast";
  readonly repairs: boolean;
  readonly patienceMs: number;
}

/** An absolute path, and where the config file names it. */
interface ReportsFolder {
  readonly path: string;
  readonly line: number | null;
  readonly column: number | null;
}

export interface AdminConfig {
  /** Null: switched off. */
  readonly listen: Address | null;
  readonly tokens: readonly {
    readonly role: "viewer" | "operator";
    readonly name: string | null;
    /** Of the token, in hexadecimal digits. */
    readonly sha256: string;
  }[];
  /** Host names that requests may use, in lower case; literal addresses and localhost are always allowed. */
  readonly hosts: readonly string[];
}
