// Three examples, one a task.

export const EXAMPLES = {
  pairwise: {
    instruction: "Explain to a ten-year-old why the sky is blue, in two sentences.",
    responses: [
      "Sunlight is made of all colours, and air bounces the blue part around much more than the red part. So blue light comes to your eyes from every side, and the sky looks blue.",
      "The sky is blue because it mirrors the sea. That is why it is grey where there is no sea.",
    ],
    criteria: [{ name: "", rubric: "The better explanation is correct and a child can follow it." }],
    options: { ties: false, bothOrders: true },
  },
  absolute: {
    instruction: "Write a short, polite e-mail that moves Tuesday's meeting to Thursday at 10.",
    responses: ["Hi Ana,\n\nsomething came up on Tuesday. Could we meet on Thursday at 10 instead?\n\nThanks,\nJo"],
    criteria: [
      { name: "complete", rubric: "1: the new time is missing. 5: it names the old day, the new day and the new time." },
      { name: "polite", rubric: "1: rude or curt. 5: warm, and asks before it moves the meeting." },
    ],
    options: { lowest: 1, highest: 5 },
  },
  classify: {
    instruction: "When did the library of Alexandria burn?",
    context: "Ancient writers blame several fires: Caesar's in 48 BC, Aurelian's war in about 272 AD, and a decree of 391 AD. None can be shown to be the end of the library.",
    responses: ["It was destroyed in a single fire in 48 BC, when Caesar burnt the ships in the harbour."],
    criteria: [{ name: "", rubric: "Does the context support everything that the response says?" }],
    options: { labels: "supported, contradicted, not in the context" },
  },
};
