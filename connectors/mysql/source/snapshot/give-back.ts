/** Gives a buffer's memory back at once, where nobody looks at it any more: the collector comes a hundred megabytes later. */
export function giveBack({ buffer, length }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === length) buffer.transfer(0);
}
