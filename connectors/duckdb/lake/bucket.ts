/** How DuckDB reaches the bucket in which a lake's data files are. */
import type { EngineConnection } from "../../kit/duckdb-engine/engine.ts";
import { NO_TLS_KEYS, tlsOptions, UnusableTls } from "../../../src/tls/options.ts";
import type { BucketSettings } from "../../kit/bucket.ts";
import { type BucketLogin, lookForLogin, MARGIN_MS } from "../../kit/bucket-login.ts";
import { duckdbError } from "../errors.ts";
import { quoteLiteral } from "../names.ts";

/** What DuckDB holds in memory of each file that it uploads is a ten-thousandth of this. */
const FILE_MAX = "50GB";

/**
 * The engine's login for the bucket, and for this bucket only. A role's login ends, and files of keys change: where the
 * options have no keys, it is looked for again in time, and after a refusal at once.
 */
export class LakeLogin {
  readonly #settings: BucketSettings;
  #region = "";
  /** When to look again. */
  #againMs = 0;
  /** The last statement that gave it to the engine. */
  #given = "";

  constructor(settings: BucketSettings) {
    this.#settings = settings;
  }

  /** The extension `httpfs` is loaded. */
  async open(connection: EngineConnection): Promise<void> {
    const { endpoint, region, ca } = this.#settings;
    if (ca !== undefined) refuseUnusable(ca, isEncrypted(endpoint));
    this.#region = region ?? (await regionOfProfile());
    await connection.run(`SET GLOBAL s3_uploader_max_filesize = ${quoteLiteral(FILE_MAX)}`);
    // DuckDB's client trusts only what it can verify; the one that it had before trusts any server unless told not to.
    await connection.run("SET GLOBAL enable_server_cert_verification = true");
    if (ca !== undefined) await connection.run(`SET GLOBAL ca_cert_file = ${quoteLiteral(ca)}`);
    await this.#give(connection);
  }

  /** Before work. `connect`: a connection without a transaction. */
  async renew(connect: () => Promise<EngineConnection>): Promise<void> {
    if (this.#settings.accessKeyId !== undefined || Date.now() < this.#againMs) return;
    const connection = await connect();
    try {
      await this.#give(connection);
    } finally {
      connection.disconnectSync();
    }
  }

  /** S3 refuses it. */
  refused(): void {
    this.#againMs = 0;
  }

  async #give(connection: EngineConnection): Promise<void> {
    const { accessKeyId, secretAccessKey } = this.#settings;
    const isKeyGiven = accessKeyId !== undefined && secretAccessKey !== undefined;
    const login = isKeyGiven ? { accessKeyId, secretAccessKey } : await lookForLogin();
    const sql = this.#secretSql(login);
    if (sql !== this.#given) await connection.run(sql);
    this.#given = sql;
    this.#againMs = (login.expiration?.getTime() ?? Number.POSITIVE_INFINITY) - MARGIN_MS;
  }

  #secretSql(login: BucketLogin): string {
    const { bucket, endpoint, pathStyle } = this.#settings;
    const server = endpoint === undefined ? undefined : new URL(endpoint);
    const options: Readonly<Record<string, string | undefined>> = {
      SCOPE: `s3://${bucket}/`,
      KEY_ID: login.accessKeyId,
      SECRET: login.secretAccessKey,
      SESSION_TOKEN: login.sessionToken,
      REGION: this.#region,
      ENDPOINT: server === undefined ? undefined : server.host + server.pathname.replace(/\/+$/, ""),
      URL_STYLE: pathStyle ? "path" : "vhost",
      USE_SSL: String(isEncrypted(endpoint)),
    };
    const list = Object.entries(options).flatMap(([name, value]) =>
      value === undefined ? [] : [`${name} ${quoteLiteral(value)}`],
    );
    return `CREATE OR REPLACE TEMPORARY SECRET millrace (TYPE s3, ${list.join(", ")})`;
  }
}

export function isEncrypted(endpoint: string | undefined): boolean {
  return endpoint === undefined || new URL(endpoint).protocol !== "http:";
}

async function regionOfProfile(): Promise<string> {
  const { S3Client } = await import("@aws-sdk/client-s3");
  const client = new S3Client({});
  try {
    return await client.config.region();
  } finally {
    client.destroy();
  }
}

/** DuckDB reads the file with its first request only, and says nothing of one that has no use. */
function refuseUnusable(ca: string, isEncrypted: boolean): void {
  try {
    tlsOptions({ ...NO_TLS_KEYS, ca }, isEncrypted);
  } catch (error) {
    if (!(error instanceof UnusableTls)) throw error;
    const { what, cause } = error;
    const message = `the bucket of the lake's data: ${what}`;
    throw duckdbError("MR2003", "blocked", message, { cause, part: "bucket" });
  }
}
