"""How are figures shown in one file of HTML that opens without a network?"""
