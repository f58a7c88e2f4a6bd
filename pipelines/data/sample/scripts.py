"""Texts of the sample set that are not plain English words: symbols to keep, and scripts to turn away."""

# Symbols that cleaning must keep: code, emoji, mathematical signs, Greek and accented letters.
# (instruction, right response, rubric, yes/no question)
SYMBOLS = (
    (
        "Write Python code that prints hi.",
        'print("hi")',
        "The better response is Python code.",
        "Is the response Python code?",
    ),
    (
        "Write SQL that reads all rows of t.",
        "SELECT * FROM t;",
        "The better response is SQL code.",
        "Is the response SQL code?",
    ),
    (
        "Write HTML that makes the word hi bold.",
        "<b>hi</b>",
        "The better response is HTML code.",
        "Is the response HTML code?",
    ),
    (
        "Write a Python list of 1, 2 and 3.",
        "x = [1, 2, 3]",
        "The better response is Python code.",
        "Is the response Python code?",
    ),
    (
        "Write a shell command that lists files.",
        "ls -l | head -n 5",
        "The better response is a shell command.",
        "Is the response a shell command?",
    ),
    ("Answer with a heart emoji.", "❤️", "The better response is an emoji.", "Is the response an emoji?"),
    ("Answer with a smiling emoji.", "😀", "The better response is an emoji.", "Is the response an emoji?"),
    (
        "Answer with a thumbs-up emoji.",
        "👍🏽",
        "The better response is an emoji.",
        "Is the response an emoji?",
    ),
    (
        "Write 'x is at most 3' with a sign.",
        "x ≤ 3",
        "The better response uses the sign ≤.",
        "Does the response use the sign ≤?",
    ),
    (
        "Write the square root of 9 with a sign.",
        "√9 = 3",
        "The better response uses the sign √.",
        "Does the response use the sign √?",
    ),
    ("Write the Greek letter pi.", "π", "The better response is the sign π.", "Is the response the sign π?"),
    (
        "Say yes in Spanish.",
        "¡Sí, señor!",
        "The better response is in Spanish.",
        "Is the response in Spanish?",
    ),
)

# kind -> (instruction, right text, wrong text) in a script that cleaning turns away.
OTHER_SCRIPTS = {
    "cyrillic": ("Назови столицу Франции.", "Столица Франции - Париж.", "Столица Франции - хлеб."),
    "chinese": ("法国的首都是哪里？", "法国的首都是巴黎。", "法国的首都是面包。"),
    "arabic": ("ما هي عاصمة فرنسا؟", "عاصمة فرنسا هي باريس.", "عاصمة فرنسا هي الخبز."),
    "hindi": ("फ्रांस की राजधानी क्या है?", "फ्रांस की राजधानी पेरिस है।", "फ्रांस की राजधानी रोटी है।"),
}
