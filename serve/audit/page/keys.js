// Which key chooses which choice: a digit never chooses another number than its own.

const UNCLEAR = "u";
const BACK = "b"; // of the page
const LETTERS = [..."abcdefghijklmnopqrstuvwxyz"].filter((letter) => letter !== UNCLEAR && letter !== BACK);

const isNumber = (value) => value.trim() !== "" && Number.isFinite(Number(value));

// A key for each value, in their order; "" where there is none left. Numbers have their own digit, and those that are no
// digit a letter; names have the digit of their place, as long as no number has it, and then a letter.
export function keysOf(values) {
  const keys = new Map();
  const taken = (key) => [...keys.values()].includes(key);
  const give = (value, key) => key && !taken(key) && keys.set(value, key);
  for (const value of values) {
    if (value === "unclear") give(value, UNCLEAR);
    else if (isNumber(value) && /^[0-9]$/.test(Number(value))) give(value, String(Number(value)));
  }
  values.forEach((value, place) => {
    if (!keys.has(value) && !isNumber(value) && place < 9) give(value, String(place + 1));
  });
  // A letter that is itself a choice would choose another one.
  const letters = LETTERS.filter((letter) => !values.some((value) => value.toLowerCase() === letter));
  for (const value of values) if (!keys.has(value)) give(value, letters.find((letter) => !taken(letter)) ?? "");
  return values.map((value) => keys.get(value) ?? "");
}
