/**
 * The replication connection. pg-logical-replication opens it, with a plugin of ours whose `start` takes over the socket.
 * From there on the library sees nothing: its own reader gives each message to a callback, and its acknowledgement adds one
 * to the position, which can skip a transaction.
 */
import type { Client, ClientConfig, QueryResultRow } from "pg";
import replication from "pg-logical-replication";
import { classify, poolerError } from "../errors.ts";
import type { PostgresAddress } from "../../../../src/postgres/url.ts";
import { connectInlet, type InletConnection } from "../../../../src/postgres/inlet.ts";
import { answered } from "./database.ts";
import { parseLsn } from "./lsn.ts";

/** Its client is for commands before the stream starts (IDENTIFY_SYSTEM, SQL). */
export type ReplicationConnection = InletConnection;

/** Opens a connection in replication mode to the database of `address`. */
export async function connectReplication(
  address: PostgresAddress,
  signal: AbortSignal,
): Promise<ReplicationConnection> {
  try {
    return await connectInlet(address, signal, throughLibrary);
  } catch (error) {
    throw classify(error, "connecting to the server");
  }
}

/** The library's part: a connection with replication=database, which it gives to a plugin. */
async function throughLibrary(config: ClientConfig): Promise<Client> {
  const service = new replication.LogicalReplicationService(config, {
    acknowledge: { auto: false, timeoutSeconds: 0 },
  });
  // `subscribe` rejects with the same error; the new owner of the socket sees later ones.
  service.on("error", () => {});
  let connected: Client | undefined;
  const plugin = {
    name: "pgoutput",
    options: {},
    start: async (client: Client): Promise<void> => {
      connected = client;
    },
    parse: (): never => {
      throw new Error("the library reads no message");
    },
  };
  await service.subscribe(plugin, "");
  if (connected === undefined) throw new Error("Connection terminated");
  return connected;
}

const COMMAND_TIMEOUT_MS = 30_000;

/** A command of the replication protocol, which has no parameters. */
export async function replicationCommand<Row extends QueryResultRow>(
  connection: ReplicationConnection,
  doing: string,
  command: string,
  signal: AbortSignal,
  timeoutMs = COMMAND_TIMEOUT_MS,
): Promise<Row[]> {
  try {
    const query = connection.client.query<Row>(command);
    const result = await answered(query, doing, signal, timeoutMs);
    return result.rows;
  } catch (error) {
    connection.close();
    throw classify(error, doing);
  }
}

export interface SystemIdentity {
  readonly systemIdentifier: string;
  readonly timeline: number;
  /** End of the flushed log. */
  readonly flushed: bigint;
}

export async function identifySystem(connection: ReplicationConnection, signal: AbortSignal): Promise<SystemIdentity> {
  // The timeline is an int4 before Postgres 16 and an int8 since.
  const [row] = await replicationCommand<{ systemid: string; timeline: number | string; xlogpos: string }>(
    connection,
    "identifying the server",
    "IDENTIFY_SYSTEM",
    signal,
  );
  if (row === undefined) throw poolerError();
  return { systemIdentifier: row.systemid, timeline: Number(row.timeline), flushed: parseLsn(row.xlogpos) };
}
