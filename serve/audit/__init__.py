"""The page on which people judge critiques: pairs out, answers in; nothing on it says which critique is which."""
