/** IP addresses and networks as texts that compare as Postgres orders them: network, length of its mask, address. */

const ADDRESS = /^([0-9A-Fa-f.:]+)(?:\/(\d{1,3}))?$/;

/** Undefined if the text is no address. Without a mask it is one host. */
export function parseAddress(text: string): string | undefined {
  const [, address = "", mask] = ADDRESS.exec(text) ?? [];
  const isV6 = address.includes(":");
  const bits = isV6 ? bitsOfV6(address) : bitsOfV4(address);
  const length = mask === undefined ? bits?.length : Number(mask);
  if (bits === undefined || length === undefined || length > bits.length) return undefined;
  // A blank is below every bit: a shorter network comes before those inside it.
  return `${isV6 ? 6 : 4}${bits.slice(0, length)} ${bits.slice(length)}`;
}

function bitsOfV4(text: string): string | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) return undefined;
  return parts.map((part) => Number(part).toString(2).padStart(8, "0")).join("");
}

function bitsOfV6(text: string): string | undefined {
  const halves = text.split("::");
  const [left, right] = halves.map((half) => (half === "" ? "" : groupsOf(half)));
  if (left === undefined || halves.length > 2 || (halves.length === 2 && right === undefined)) return undefined;
  const missing = 128 - left.length - (right?.length ?? 0);
  if (halves.length === 1 ? missing !== 0 : missing < 16) return undefined;
  return left + "0".repeat(missing) + (right ?? "");
}

/** Groups of 16 bits; the last two may be written as an address of version 4. */
function groupsOf(text: string): string | undefined {
  const groups = text.split(":").map((group, i, all) => {
    if (i === all.length - 1 && group.includes(".")) return bitsOfV4(group);
    return /^[0-9A-Fa-f]{1,4}$/.test(group) ? Number.parseInt(group, 16).toString(2).padStart(16, "0") : undefined;
  });
  return groups.includes(undefined) ? undefined : groups.join("");
}
