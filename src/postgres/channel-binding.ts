import type { Connection } from "pg";
import { Failure } from "./failure.ts";

const BOUND = "SCRAM-SHA-256-PLUS";

/** The members of the driver's connection for the login, which its types omit. */
interface LoginSide {
  password(text: string): void;
  sendSASLInitialResponseMessage(mechanism: string, response: string): void;
}

/**
 * Makes it a connection for `channel_binding=require` with libpq's meaning: it reveals nothing about the password and accepts
 * no login, except by SCRAM bound to this TLS session. The driver alone binds if the server offers it, and answers every
 * other request too.
 */
export function requireBinding(connection: Connection): void {
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
    if (!isBound) refuse("accepts a login that is not bound");
  });
}

function notBound(what: string): Error {
  return new Failure("unbound", `the server ${what}, and channel_binding=require forbids that`, {
    fix: "Let pg_hba.conf ask this role for scram-sha-256 in a hostssl line (its password has to be stored as one), or leave channel_binding out.",
  });
}
