import { type HttpGateway, httpGateway, type Reply } from "../network/http-gateway.ts";

export interface Statement {
  /** With the rows of an insert, as latin1. */
  readonly sql: string;
  /** As the address has them. */
  readonly settings: URLSearchParams;
  /** What the server says. */
  readonly pass: () => Promise<Reply>;
}

export function refusal(code: number, text: string): Reply {
  const body = Buffer.from(`Code: ${code}. DB::Exception: ${text}\n`);
  return { status: 500, headers: { "x-clickhouse-exception-code": String(code) }, body };
}

/** Before ClickHouse: answers statements as a test says, and passes all others on. */
export async function clickhouseGateway(
  target: string,
  answer: (statement: Statement) => Promise<Reply>,
): Promise<HttpGateway> {
  return await httpGateway(target, async ({ path, body, pass }) => {
    const { searchParams: settings } = new URL(path, "http://gateway");
    return await answer({ sql: body.toString("latin1"), settings, pass });
  });
}
