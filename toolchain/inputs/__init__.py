"""What a user names: :mod:`.sources` finds recipes and code, :mod:`.samples` data, :mod:`.overlap` what is in both."""
