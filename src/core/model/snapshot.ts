/**
 * Whether a snapshot (`xmin:xmax:xip,…` of pg_current_snapshot, 64-bit) saw a transaction that the stream names by its
 * 32-bit id. The full id is the one nearest to the snapshot's end.
 */
export function snapshotSees(text: string): (xid: number) => boolean {
  const [xminText, xmaxText, list] = text.split(":");
  const xmin = BigInt(xminText ?? "");
  const xmax = BigInt(xmaxText ?? "");
  const running = new Set(
    (list ?? "")
      .split(",")
      .filter((xid) => xid !== "")
      .map(BigInt),
  );
  return (xid) => {
    const full = fullXid(xid, xmax);
    return full < xmin || (full < xmax && !running.has(full));
  };
}

function fullXid(xid: number, near: bigint): bigint {
  const candidate = (near & ~0xffff_ffffn) | BigInt(xid >>> 0);
  if (candidate > near + 0x8000_0000n) return candidate - 0x1_0000_0000n;
  if (candidate < near - 0x8000_0000n) return candidate + 0x1_0000_0000n;
  return candidate;
}
