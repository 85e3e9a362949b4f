"""How do images come again, in several views, more or less often?"""
