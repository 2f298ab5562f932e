import type { ConnectionOptions } from "node:tls";
import type { Socket } from "node:net";
import { Connection } from "pg";
import { Failure } from "./failure.ts";

const BOUND = "SCRAM-SHA-256-PLUS";

/** What of the driver's connection speaks for the login; its types leave it out. */
interface LoginSide {
  password(text: string): void;
  sendSASLInitialResponseMessage(mechanism: string, response: string): void;
}

/**
 * A connection for `channel_binding=require`, as libpq means it: nothing of the password leaves us, and no login counts, but
 * by SCRAM that is bound to this TLS session. The driver by itself binds where the server offers it, and answers whatever
 * else it is asked for.
 */
export function boundConnection(socket: Socket, ssl: false | ConnectionOptions, isDirectTls: boolean): object {
  const connection = new Connection({
    stream: () => socket,
    ssl,
    sslNegotiation: isDirectTls ? "direct" : "postgres",
    keepAlive: true,
    keepAliveInitialDelayMillis: 30_000,
  } as object);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the driver's own methods (pg/lib/connection.js)
  const login = connection as unknown as LoginSide;
  const send = login.sendSASLInitialResponseMessage.bind(connection);
  let isBound = false;
  const refuse = (what: string): void => void connection.emit("error", notBound(what));
  login.password = () => refuse("asks for the password itself");
  login.sendSASLInitialResponseMessage = (mechanism, response) => {
    if (mechanism !== BOUND) return refuse("does not offer to bind the login to TLS");
    isBound = true;
    send(mechanism, response);
  };
  connection.prependListener("authenticationOk", () => {
    if (!isBound) refuse("lets us in without a bound login");
  });
  return connection;
}

function notBound(what: string): Error {
  return new Failure("unbound", `the server ${what}, and channel_binding=require forbids that`, {
    fix: "Let pg_hba.conf ask this role for scram-sha-256 in a hostssl line (its password has to be stored as one), or leave channel_binding out.",
  });
}
